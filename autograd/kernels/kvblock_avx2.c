#if defined __x86_64__
#define KVBLOCK_TABLE kvblock_avx2
#define KVBLOCK_NAME  "avx2"
#include "autograd/kernels/kvblock_vec.h"
#endif
