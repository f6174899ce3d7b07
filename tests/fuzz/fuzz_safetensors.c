/* libFuzzer: any bytes as a safetensors file. Tensors of what is accepted cover its data, in order,
   without holes. */
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "autograd/base/err.h"
#include "compress/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    struct safetensors s;
    const int fd = memfd_create("fuzz", 0);
    if (fd < 0)
        return 0;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (write(fd, data, size) == (ssize_t)size && !safetensors_open(&s, path)) {
        uint64_t at = 0;
        for (size_t i = 0; i < s.n; i++) {
            if (s.tensor[i].begin != at || s.tensor[i].end < at)
                BUG("tensor %zu starts at %llu", i, (unsigned long long)s.tensor[i].begin);
            at = s.tensor[i].end;
        }
        if (s.data + at != size)
            BUG("%llu bytes of %zu are covered", (unsigned long long)(s.data + at), size);
        safetensors_close(&s);
    }
    close(fd);
    return 0;
}
