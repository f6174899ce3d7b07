/* attar run CONFIG.yaml [key=value ...] */
#include <omp.h>
#include <stdio.h>

#include "experiments/cmd.h"
#include "experiments/config.h"
#include "experiments/flags.h"
#include "experiments/interrupt.h"
#include "experiments/run.h"

struct run_args {
    const char *config;
    struct texts overrides;
    bool fresh;
};

static const struct field table[] = {
    {FIELD_AT(run_args, config), .type = FIELD_TEXT, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc = "the experiment, see `attar help config`"},
    {FIELD_AT(run_args, overrides), .type = FIELD_TEXTS, .flags = FIELD_POSITIONAL,
     .doc = "key=value: changes of the config, e.g. pretrain.lr=1e-3"},
    {FIELD_AT(run_args, fresh), .type = FIELD_BOOL,
     .doc = "start over; an earlier run moves aside"},
    {0},
};

static const struct flags flags = {
    "run CONFIG.yaml [key=value ...] [--fresh]",
    "Runs the stages of a config in order. The same command goes on where a run was stopped.",
    table};

int cmd_run(int argc, char **argv)
{
    struct run_args args;
    struct pool pool = {0};
    struct config config = {0};
    int rc = flags_parse(&flags, argc, argv, &args, &pool);
    if (!rc && !(rc = config_read(&config, args.config, args.overrides.n, args.overrides.value))) {
        if (config.threads > 0)
            omp_set_num_threads((int)config.threads);
        interrupt_catch();
        rc = run_all(&config, args.fresh) ? -1 : 0;
    }
    config_free(&config);
    pool_free(&pool);
    return rc == FLAGS_HELP ? 0 : rc;
}
