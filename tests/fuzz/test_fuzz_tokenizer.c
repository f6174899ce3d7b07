#include "tests/fuzz/fuzz_tokenizer.c"
#include "tests/replay.h"

REPLAY("tests/fuzz/tokenizer", 1000)
