#if defined __aarch64__
#define ROWS_TABLE rows_neon
#define ROWS_NAME  "neon"
#include "autograd/kernels/rows_vec.h"
#endif
