#if defined __x86_64__
#define ROWS_TABLE rows_avx2
#define ROWS_NAME  "avx2"
#include "autograd/kernels/rows_vec.h"
#endif
