#include "tests/fuzz/fuzz_safetensors.c"
#include "tests/replay.h"

REPLAY("tests/fuzz/safetensors", 2000)
