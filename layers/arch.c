#include "layers/arch.h"

#include <string.h>

#define ARCH(tag, name, varied, traits) {name, varied, traits},
const struct arch_row arch_rows[ARCH_N] = {
#include "layers/arch.def"
};
#undef ARCH

#define ARCH(tag, name, varied, traits) name,
const char *const arch_names[] = {
#include "layers/arch.def"
    NULL};
#undef ARCH

int arch_find(const char *name)
{
    for (int i = 0; i < ARCH_N; i++)
        if (!strcmp(arch_rows[i].name, name))
            return i;
    return -1;
}

int arch_find_gguf(const char *text, size_t n, const char **name)
{
    for (int i = 0; i < ARCH_N; i++) {
        const char *const each[] = {arch_rows[i].name, arch_rows[i].varied};
        for (int k = 0; k < 2; k++) {
            if (!each[k] || strlen(each[k]) != n || memcmp(each[k], text, n) != 0)
                continue;
            if (name)
                *name = each[k];
            return i;
        }
    }
    return -1;
}
