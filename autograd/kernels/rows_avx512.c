#if defined __x86_64__
#define ROWS_TABLE rows_avx512
#define ROWS_NAME  "avx512"
#include "autograd/kernels/rows_vec.h"
#endif
