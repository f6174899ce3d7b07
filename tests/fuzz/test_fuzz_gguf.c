#include "tests/fuzz/fuzz_gguf.c"
#include "tests/replay.h"

REPLAY("tests/fuzz/gguf", 2000)
