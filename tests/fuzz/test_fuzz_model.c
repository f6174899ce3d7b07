#include "tests/fuzz/fuzz_model.c"
#include "tests/replay.h"

REPLAY("tests/fuzz/model", 1000)
