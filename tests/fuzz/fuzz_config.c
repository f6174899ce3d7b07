/* libFuzzer: overrides, one a line up to a line with a NUL byte, then the YAML. No input may crash,
   and whatever is accepted must survive being written and read again. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "autograd/base/err.h"
#include "experiments/config.h"

enum { OVERRIDES_MAX = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_round_trip(const struct config *c)
{
    struct mistakes bad = {.file = "again"};
    struct config again;
    struct buf first = {0}, second = {0}, out = {0};
    char hex[33];
    config_write(c, &first);
    if (config_parse(&again, first.p, first.n, ".", 0, NULL, &bad)) {
        mistake_print(&bad, SIZE_MAX, &out);
        BUG("the resolved config is refused:\n%s\n%s", out.p, first.p);
    }
    config_write(&again, &second);
    bool bad_hash = false;
    for (int i = 0; i < c->n_stages; i++)
        bad_hash |= config_hash(c, i, hex) != 0;
    if (strcmp(first.p, second.p) || config_diff(c, &again, &out) || bad_hash)
        BUG("the resolved config is read as another:\n%s\n%s", first.p, second.p);
    config_free(&again);
    mistake_free(&bad);
    buf_free(&first);
    buf_free(&second);
    buf_free(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *overrides[OVERRIDES_MAX];
    struct mistakes bad = {.file = "fuzz"};
    struct config c;
    struct buf out = {0};
    int n = 0;
    const uint8_t *nul = memchr(data, 0, size);
    char *head = strndup((const char *)data, nul ? (size_t)(nul - data) : 0);
    if (!head)
        return 0;
    for (char *rest = head, *one; n < OVERRIDES_MAX && (one = strsep(&rest, "\n"));)
        if (*one)
            overrides[n++] = one;
    const size_t skip = nul ? (size_t)(nul - data) + 1 : 0;
    const int rc =
        config_parse(&c, (const char *)data + skip, size - skip, ".", n, overrides, &bad);
    mistake_print(&bad, 10000, &out);
    if (!rc != !out.n)
        BUG("a result of %d with the mistakes: %s", rc, out.n ? out.p : "");
    if (!rc)
        check_round_trip(&c);
    config_free(&c);
    mistake_free(&bad);
    buf_free(&out);
    free(head);
    return 0;
}
