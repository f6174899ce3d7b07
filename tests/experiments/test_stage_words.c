/* What a stage says of itself: shape, text, what is trained. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "experiments/stage_words.h"

static void says(struct buf *b, const char *want)
{
    assert_string_equal(b->p, want);
    buf_clear(b);
}

static void the_model(void **state)
{
    (void)state;
    static struct transformer_dims d; // large
    struct buf b = {0};
    d = (struct transformer_dims){.arch = ARCH_LLAMA,
                                  .n_layers = 2,
                                  .d_model = 1024,
                                  .vocab = 32000,
                                  .context = 2048,
                                  .tied = true};
    d.n_heads[0] = d.n_heads[1] = 16;
    d.n_kv_heads[0] = d.n_kv_heads[1] = 4;
    d.d_ff[0] = 1536;
    d.d_ff[1] = 3072;
    stage_words_model(&d, &b);
    says(&b, "llama: 2 layers, 1,024 wide, 16 heads (4 for keys and values), feed-forward 1,536 to "
             "3,072, vocabulary 32,000 (tied), context 2,048");
    buf_free(&b);
}

static void the_text(void **state)
{
    (void)state;
    static struct config c; // large
    static struct config_stage s;
    const char *names[] = {"a.txt", "b.txt", "c.txt", "d.txt"};
    struct corpus corpus = {0};
    struct buf b = {0};
    corpus.part[CORPUS_TRAIN].tokens = 1000000;
    corpus.part[CORPUS_TRAIN].bytes = 3000000;
    corpus.part[CORPUS_VALID].tokens = 1000;
    corpus.part[CORPUS_VALID].bytes = 3000;
    c.data.corpus = (struct texts){4, names};
    s.kind = STAGE_PRETRAIN;
    stage_words_corpus(&c, &s, &corpus, &b);
    says(&b,
         "a.txt, b.txt, c.txt and 1 more: 1,000,000 tokens to train on, 1,000 to validate with, "
         "3.000 bytes a token");
    s.kind = STAGE_FINETUNE;
    s.finetune.data = "pairs.jsonl";
    stage_words_corpus(&c, &s, &corpus, &b);
    says(&b,
         "pairs.jsonl: 1,000,000 tokens to train on, 1,000 to validate with, 3.000 bytes a token");
    buf_free(&b);
}

static void what_is_trained(void **state)
{
    (void)state;
    static struct config_stage s; // large
    struct buf b = {0};
    s.kind = STAGE_FINETUNE;
    s.qat.teacher_stage = -1;
    stage_words_trained(&s, 12345, 12345, &b);
    says(&b, "all 12,345 parameters");
    s.kind = STAGE_QAT;
    s.qat.type = "q3_k_m";
    stage_words_trained(&s, 12345, 12345, &b);
    says(&b, "all 12,345 parameters, in blocks of Q3_K_M, scales as fitted; without a teacher");
    s.qat.scales = SCALES_SUPER;
    s.qat.teacher_stage = 0;
    stage_words_trained(&s, 12345, 12345, &b);
    says(&b,
         "all 12,345 parameters, in blocks of Q3_K_M, d and dmin of the blocks with them; with a "
         "teacher");
    s.qat.params = PARAMS_SCALES;
    stage_words_trained(&s, 345, 12345, &b);
    says(&b, "345 scales, in blocks of Q3_K_M; the model has 12,345 parameters; with a teacher");
    s.qat.params = PARAMS_LORA;
    s.qat.lora.rank = 8;
    stage_words_trained(&s, 345, 12345, &b);
    says(&b,
         "factors (LoRA) of 345 parameters, rank 8, over weights in Q3_K_M; the model has 12,345 "
         "parameters; with a teacher");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_model),
        cmocka_unit_test(the_text),
        cmocka_unit_test(what_is_trained),
    };
    return cmocka_run_group_tests_name("stage_words", tests, NULL, NULL);
}
