#if defined __aarch64__
#define FIT_TABLE  fit_neon
#define FIT_NARROW fit_neon
#define FIT_NAME   "neon"
#include "compress/codecs/fit_vec.h"
#endif
