#include <stdio.h>
#include <string.h>

#include "autograd/base/err.h"
#include "autograd/base/file.h"
#include "experiments/cmd.h"
#include "experiments/page.h"
#include "experiments/report.h"

static int usage(const char *what)
{
    err("%s\nusage: attar report RUN_DIR [-o FILE.html]", what);
    return CMD_USAGE;
}

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
    const char *folder = NULL, *out = NULL;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-o") || !strcmp(argv[i], "--output")) {
            if (++i == argc)
                return usage("-o needs a file name");
            out = argv[i];
        } else if (argv[i][0] == '-' && argv[i][1]) {
            return usage("unknown option");
        } else if (folder) {
            return usage("one run at a time");
        } else {
            folder = argv[i];
        }
    }
    if (!folder)
        return usage("which run?");
    return write_report(folder, out);
}
