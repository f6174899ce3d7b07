#include "layers/arch.h"

#include <stddef.h>
#include <string.h>

#define ARCH(tag, name, traits) {name, traits},
const struct arch_row arch_rows[ARCH_N] = {
#include "layers/arch.def"
};
#undef ARCH

#define ARCH(tag, name, traits) name,
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
