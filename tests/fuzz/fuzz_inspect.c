/* libFuzzer: model files as attar inspect shows them, GGUF or, if the first bit is set, safetensors
   behind that byte. No input may crash, and no line that is shown may be too wide, invalid UTF-8 or
   move the cursor. */
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "autograd/base/utf8.h"
#include "experiments/inspect.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct buf *out)
{
    size_t columns = 0;
    if (utf8_valid(out->p, out->n) != out->n)
        BUG("invalid UTF-8 is shown");
    for (size_t i = 0; i < out->n; i++) {
        const unsigned char c = (unsigned char)out->p[i];
        columns = c == '\n' ? 0 : columns + ((c & 0xc0) != 0x80);
        if (columns > INSPECT_WIDTH || (c < ' ' && c != '\n') || c == 0x7f)
            BUG("byte %zu of what is shown:\n%s", i, out->p);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    struct buf out = {0};
    const int fd = memfd_create("fuzz", 0);
    if (!size || fd < 0 || write(fd, data + 1, size - 1) != (ssize_t)(size - 1)) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (!(*data & 1 ? inspect_safetensors : inspect_gguf)(path, &out))
        check(&out);
    buf_free(&out);
    close(fd);
    return 0;
}
