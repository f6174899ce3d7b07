/* Heap memory for what is set up once. Per-step memory comes from the arena (arena.h). */
#ifndef ATTAR_AUTOGRAD_BASE_MEM_H
#define ATTAR_AUTOGRAD_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>

/* n * size zeroed bytes, owned by the caller (free()). NULL with err() set if the product
   overflows or memory is short. Never NULL otherwise, also for 0 bytes. */
void *mem_new(size_t n, size_t size);

/* Grows *p (an array of *cap elements of `size` bytes) until it holds `need` of them; new elements
   are zero. 0, or -1 with err() set and *p untouched. */
int mem_grow(void *p, size_t *cap, size_t need, size_t size);

/* A copy of n bytes of s with a NUL behind them; NULL with err() set if memory is short. */
char *mem_text(const char *s, size_t n);

/* As mem_new, but aligned to 64 bytes and in huge pages where the kernel grants them: for slabs of
   parameters and gradients. free() releases it. */
void *mem_slab(size_t n, size_t size);

/* Set while the functions above ask for MEM_MAY_FAIL bytes or more: the program's allocator
   (experiments/main_memory.c) lets such a request fail, as err() answers it, and ends the program
   where it has not even memory for less. */
enum { MEM_MAY_FAIL = 1 << 20 };
extern _Thread_local bool mem_may_fail;

/* For tests: the k-th call from now (1 = the next one) fails, once; 0 turns that off. */
void mem_fail_at(long k);

#endif
