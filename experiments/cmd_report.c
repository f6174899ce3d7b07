/* attar report RUN_DIR [-o FILE.html] */
#include <stdio.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "experiments/cmd.h"
#include "experiments/flags.h"
#include "experiments/page.h"
#include "experiments/report.h"

struct report_args {
    const char *folder, *output;
};

static const struct field table[] = {
    {FIELD_AT(report_args, folder), .type = FIELD_TEXT, .flags = FIELD_REQUIRED | FIELD_POSITIONAL,
     .doc = "the folder of a run"},
    {FIELD_AT(report_args, output), .type = FIELD_TEXT, .letter = 'o',
     .doc = "the page to write (default: report.html in the folder)"},
    {0},
};

static const struct flags flags = {
    "report RUN_DIR [-o FILE.html]",
    "Writes one self-contained HTML page of a run: curves, samples, results, config.", table};

static int write_report(const char *folder, const char *out)
{
    struct report r;
    struct buf page = {0}, path = {0};
    int rc = report_load(&r, folder);
    if (!rc)
        rc = page_write(&page, &r);
    if (out)
        buf_text(&path, out);
    else
        buf_printf(&path, "%s/report.html", folder);
    if (!rc && path.failed)
        rc = -1;
    if (!rc)
        rc = file_replace(path.p, page.p, page.n);
    if (!rc)
        printf("%s\n", path.p);
    for (size_t i = 0; !rc && i < r.n; i++)
        if (r.stage[i].problem.n)
            err_warn("%s", r.stage[i].problem.p);
    report_free(&r);
    buf_free(&page);
    buf_free(&path);
    return rc;
}

int cmd_report(int argc, char **argv)
{
    struct report_args args;
    struct pool pool = {0};
    int rc = flags_parse(&flags, argc, argv, &args, &pool);
    if (!rc)
        rc = write_report(args.folder, args.output);
    pool_free(&pool);
    return rc == FLAGS_HELP ? 0 : rc;
}
