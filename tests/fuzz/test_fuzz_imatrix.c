#include "tests/fuzz/fuzz_imatrix.c"
#include "tests/replay.h"

REPLAY("tests/fuzz/imatrix", 2000)
