#if defined __x86_64__
#define FIT_TABLE  fit_avx512
#define FIT_NARROW fit_avx2
#define FIT_NAME   "avx512"
#include "compress/codecs/fit_vec.h"
#endif
