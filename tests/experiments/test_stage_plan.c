/* What a stage is planned to take is what its run takes: memory to the byte, FLOPs exactly, for all
   that stages train, with every kind of teacher, in both precisions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "autograd/base/mem.h"
#include "experiments/model.h"
#include "experiments/rehearsal.h"
#include "experiments/stage_plan.h"
#include "experiments/summary.h"
#include "tests/datasets/scratch.h"
#include "tests/experiments/same_run.h"
#include "tests/experiments/spawn.h"

static const char HEAD[] =
    "name: %s\n"
    "data: {corpus: text.txt, tokenizer: {type: byte}, valid_fraction: 20%%}\n"
    "model: {arch: %s, n_layers: 1, d_model: 256, n_heads: 4, d_ff: 256, context: 32}\n"
    "stages:\n"
    "  - pretrain: {name: base, steps: 1, batch_tokens: 64, precision: f32}\n";

/* What is trained. */
static const char *const ways[] = {
    "qat: {params: all, ",
    "qat: {params: all, type: q4_0, optimizer: muon, recompute: blocks, ",
    "qat: {params: all, scales: learned, activations: true, ",
    "qat: {params: scales, scales: super, weight_decay: 0, ",
    "qat: {params: scales, scales: learned, optimizer: lion, weight_decay: 0, ",
    "qat: {params: lora, lora: {rank: 4, targets: [attn_q, ffn_down]}, ",
    "qat: {params: lora, type: f32, optimizer: muon, ",
    "qat: {params: lora, type: f16, recompute: blocks, ",
    "pretrain: {ema: 0.9, ",
    "pretrain: {optimizer: muon, recompute: blocks, ",
    "finetune: {data: more.txt, optimizer: sgd, ",
};
enum { WAYS = sizeof ways / sizeof *ways };

static const char *const teachers[] = {"teacher: none, ", "",
                                       "teacher: runs/other/01-base/checkpoint.h5, "};
static const char *const precisions[] = {"f32", "bf16"};

static const char *folder;

static int setup(void **state)
{
    if (scratch_setup(state))
        return -1;
    folder = scratch_folder(*state);
    same_run_text(scratch_path(*state, "text.txt"), 40, 3);
    same_run_text(scratch_path(*state, "more.txt"), 40, 4);
    return 0;
}

static void write_config(void *scratch, const char *name, const char *arch, bool all)
{
    struct buf text = {0};
    char file[64];
    buf_printf(&text, HEAD, name, arch);
    for (int w = 0; w < WAYS && all; w++)
        for (int t = 0; t < 3; t++)
            for (int p = 0; p < 2; p++) {
                const bool qat = !strncmp(ways[w], "qat", 3);
                if (!qat && t)
                    continue;
                buf_printf(&text,
                           "  - %s%s%sname: s%d-%d-%d, from: base, steps: 1, batch_tokens: 128, "
                           "micro_batch_tokens: 64, lr: 1e-4, precision: %s}\n",
                           ways[w], qat ? teachers[t] : "",
                           qat && !strstr(ways[w], "type:") ? "type: q2_k, " : "", w, t, p,
                           precisions[p]);
            }
    assert_false(text.failed);
    snprintf(file, sizeof file, "%s.yaml", name);
    scratch_text(scratch_path(scratch, file), text.p);
    buf_free(&text);
}

static const char *fact(const struct summary *s, const char *name)
{
    for (int64_t i = 0; i < s->n_facts; i++)
        if (!strcmp(s->fact[i].name, name))
            return s->fact[i].value;
    fail_msg("no fact '%s'", name);
    return NULL;
}

static void compare(const struct config *c, int i, int vocab)
{
    static struct stage_plan p;
    struct plan_memory m;
    struct profile step = {0};
    struct summary s;
    char path[600], text[64];
    if (stage_plan_init(&p, c, i, vocab) || plan_memory(&p.step, &m) ||
        rehearsal_plan(&p.step, &step))
        fail_msg("%s: %s", c->stages[i].name, err_text());
    const size_t train = plan_train(&p.dims, &p.step.pass), eval = plan_eval(&p.dims, &p.step.pass);
    assert_true(train && eval);
    snprintf(path, sizeof path, "%s/runs/t/%02d-%s/summary.json", folder, i + 1, c->stages[i].name);
    assert_int_equal(summary_read(&s, path), 0);
    snprintf(text, sizeof text, "%zu", m.sum + (train > eval ? train : eval));
    if (strcmp(text, fact(&s, "memory bytes")))
        fail_msg("%s: %s bytes planned, %s used", c->stages[i].name, text,
                 fact(&s, "memory bytes"));
    snprintf(text, sizeof text, "%zu", train > eval ? train : eval);
    assert_string_equal(text, fact(&s, "arena bytes"));
    snprintf(text, sizeof text, "%.0f", rehearsal_flops(&step));
    if (strcmp(text, fact(&s, "FLOPs a step")))
        fail_msg("%s: %s FLOPs planned, %s done", c->stages[i].name, text,
                 fact(&s, "FLOPs a step"));
    snprintf(path, sizeof path, "%s/runs/t/%02d-%s/checkpoint.h5", folder, i + 1,
             c->stages[i].name);
    size_t n;
    free(scratch_read(path, &n));
    assert_true(n > m.checkpoint); // beside the model it has texts and names
    assert_true(n < m.checkpoint + 300000);
    summary_free(&s);
    profile_free(&step);
    stage_plan_free(&p);
}

static void plan_equals_run(void **state)
{
    struct config c;
    char path[600];
    write_config(*state, "other", "llama", false);
    write_config(*state, "t", "llama", true);
    spawn_expect(folder, 0, "run other.yaml");
    spawn_expect(folder, 0, "run t.yaml");
    snprintf(path, sizeof path, "%s/t.yaml", folder);
    if (config_read(&c, path, 0, NULL))
        fail_msg("%s", err_text());
    assert_int_equal(c.n_stages, 1 + 8 * 3 * 2 + 3 * 2);
    // what `teacher` names starts from the current folder
    assert_int_equal(chdir(folder), 0);
    for (int i = 0; i < c.n_stages; i++)
        compare(&c, i, model_vocabulary(&c));
    config_free(&c);
    assert_int_equal(chdir("/"), 0);
}

/* A step of bench is the stage's: with its teacher, what it trains and what it rounds. */
static void bench_rehearses_the_stage(void **state)
{
    struct config c;
    static struct stage_plan p;
    char path[600];
    write_config(*state, "other", "llama", false);
    write_config(*state, "t", "llama", true);
    spawn_expect(folder, 0, "run other.yaml");
    assert_int_equal(chdir(folder), 0);
    snprintf(path, sizeof path, "%s/t.yaml", folder);
    assert_int_equal(config_read(&c, path, 0, NULL), 0);
    for (int i = 1; i < c.n_stages; i += 5) {
        struct rehearsal r = {0};
        struct profile plan = {0};
        double seconds;
        if (stage_plan_init(&p, &c, i, model_vocabulary(&c)) || rehearsal_init(&r, &p.step) ||
            rehearsal_step(&r, &seconds) || rehearsal_plan(&p.step, &plan))
            fail_msg("%s: %s", c.stages[i].name, err_text());
        assert_true(rehearsal_flops(&r.profile) == rehearsal_flops(&plan));
        for (int k = 0; k < r.profile.n; k++) {
            const struct profile_row *row = &r.profile.row[k];
            const struct profile_row *as = profile_find(&plan, row->name, row->backward);
            if (!as || as->calls != row->calls || as->flops != row->flops)
                fail_msg("%s: %s is not as planned", c.stages[i].name, row->name);
        }
        rehearsal_free(&r);
        profile_free(&plan);
        stage_plan_free(&p);
    }
    config_free(&c);
    assert_int_equal(chdir("/"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(plan_equals_run, setup, scratch_teardown),
        cmocka_unit_test_setup_teardown(bench_rehearses_the_stage, setup, scratch_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
