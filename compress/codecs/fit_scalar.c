/* The reference: lanes one by one. */
#define VEC_SCALAR
#define FIT_TABLE  fit_scalar
#define FIT_NARROW fit_scalar
#define FIT_NAME   "scalar"
#include "compress/codecs/fit_vec.h"
