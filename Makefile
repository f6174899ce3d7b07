# attar: everything is made from here.
#   make            ./attar, libattar.a
#   make quickstart packages, build, train on the King James Bible, write some text
#   make test       unit tests, the sanitizer pass last

CC      ?= gcc
BUILD   ?= build/release
PREFIX  ?= /usr/local
ARCH    := $(shell $(CC) -dumpmachine | cut -d- -f1)

WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wvla -Wundef -Wmissing-prototypes
CFLAGS  ?= -O3 -g
CFLAGS  += -std=c11 -ffp-contract=off -fno-math-errno -fno-trapping-math -fopenmp $(WARN)
PKGS    := yaml-0.1 libpcre2-8 libxxhash jansson libutf8proc liblzma libcrypto
HDF5    := hdf5-serial
CPPFLAGS += -I. -D_GNU_SOURCE $(shell pkg-config --cflags $(PKGS) $(HDF5) 2>/dev/null)
LDLIBS  += $(shell pkg-config --libs $(PKGS) $(HDF5) 2>/dev/null) -lopenblas -lm
ifneq ($(SAN),)
CFLAGS  += -fsanitize=$(SAN) -fno-omit-frame-pointer
LDFLAGS += -fsanitize=$(SAN)
endif

FOLDERS := autograd layers optim compress datasets experiments
LIB_SRC := $(filter-out experiments/main.c,$(sort $(shell find $(FOLDERS) -name '*.c' 2>/dev/null)))
# a kernel file names its instruction set: <family>_<isa>.c is compiled for it, on x86 only
LIB_OBJ := $(LIB_SRC:%.c=$(BUILD)/%.o)
TEST_SRC := $(sort $(shell find tests -name 'test_*.c'))
TEST_BIN := $(TEST_SRC:%.c=$(BUILD)/%)
TEST_LIB_SRC := $(sort $(filter-out $(TEST_SRC),$(shell find tests -name '*.c' -not -path 'tests/bench/*' -not -path 'tests/fuzz/*')))
TEST_LIB_OBJ := $(TEST_LIB_SRC:%.c=$(BUILD)/%.o)

.PHONY: all test
all: attar libattar.a

$(BUILD)/%_avx2.o: ISA := $(if $(filter x86_64,$(ARCH)),-mavx2 -mfma -mf16c)
$(BUILD)/%_avx512.o: ISA := $(if $(filter x86_64,$(ARCH)),-mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c -mprefer-vector-width=512)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(ISA) -MMD -MP -c $< -o $@

$(BUILD)/libattar.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/attar: $(BUILD)/experiments/main.o $(BUILD)/libattar.a
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

attar: $(BUILD)/attar
	cp $< $@
libattar.a: $(BUILD)/libattar.a
	cp $< $@

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_LIB_OBJ) $(BUILD)/libattar.a
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -lcmocka -o $@

test: $(TEST_BIN)
	@for t in $(TEST_BIN); do $$t || exit 1; done

.SECONDARY:
-include $(LIB_OBJ:.o=.d) $(TEST_SRC:%.c=$(BUILD)/%.d) $(TEST_LIB_OBJ:.o=.d) $(BUILD)/experiments/main.d
