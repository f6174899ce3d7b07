#if defined __x86_64__
#define KVBLOCK_TABLE kvblock_avx512
#define KVBLOCK_NAME  "avx512"
#include "autograd/kernels/kvblock_vec.h"
#endif
