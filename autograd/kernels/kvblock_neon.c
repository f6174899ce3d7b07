#if defined __aarch64__
#define KVBLOCK_TABLE kvblock_neon
#define KVBLOCK_NAME  "neon"
#include "autograd/kernels/kvblock_vec.h"
#endif
