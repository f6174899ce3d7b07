#if defined __x86_64__
#define FIT_TABLE  fit_avx2
#define FIT_NARROW fit_avx2
#define FIT_NAME   "avx2"
#include "compress/codecs/fit_vec.h"
#endif
