#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "autograd/base/err.h"
#include "compress/codecs/codecs.h"
#include "compress/recipe.h"

/* A model of 32 layers without grouped heads, with a head of its own. */
static const struct recipe_facts plain = {.n_layers = 32, .n_heads = 8, .n_kv_heads = 8};

static const char *choose(const struct recipe *r, const struct recipe_facts *f, const char *name,
                          int64_t cols)
{
    struct recipe_choice c;
    const struct recipe_tensor t = {.name = name, .nd = 2, .cols = cols, .from = &dtype_f32};
    if (recipe_choose(r, f, &t, &c))
        fail_msg("%s", err_text());
    return c.dt->name;
}

static struct recipe made(const struct recipe_options *o)
{
    struct recipe r;
    if (recipe_init(&r, o))
        fail_msg("%s", err_text());
    return r;
}

/* The types of a block's four ruled tensors in each of n layers, as letters: 2 3 4 5 6 8. */
static void letters(const char *type, const struct recipe_facts *f, const char *tensor, char *out)
{
    struct recipe r = made(&(struct recipe_options){.type = type});
    for (int i = 0; i < f->n_layers; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%d.%s.weight", i, tensor);
        const char *dt = choose(&r, f, name, 512);
        assert_int_equal(dt[0], 'q');
        out[i] = dt[1];
    }
    out[f->n_layers] = 0;
    recipe_free(&r);
}

static void assert_layers(const char *type, const struct recipe_facts *f, const char *tensor,
                          const char *want)
{
    char got[64];
    letters(type, f, tensor, got);
    if (strcmp(got, want) != 0)
        fail_msg("%s, %s: %s, %s is expected", type, tensor, got, want);
}

/* Section by section the table of llama-quantize, for 32 layers. */
static void mixes_are_those_of_llama_quantize(void **state)
{
    (void)state;
    const struct recipe_facts shared = {.n_layers = 32, .n_heads = 32, .n_kv_heads = 8};
    static const char all2[] = "22222222222222222222222222222222";
    static const char all3[] = "33333333333333333333333333333333";
    static const char all4[] = "44444444444444444444444444444444";
    static const char all5[] = "55555555555555555555555555555555";
    static const char all6[] = "66666666666666666666666666666666";
    static const char more4[] = "66664464464464464464464464466666";
    static const char more5[] = "66665565565565565565565565566666";
    assert_layers("Q2_K", &plain, "attn_v", all3);
    assert_layers("Q2_K", &shared, "attn_v", all4);
    assert_layers("Q2_K", &plain, "ffn_down", all3);
    assert_layers("Q2_K", &plain, "attn_output", all3);
    assert_layers("Q2_K", &plain, "attn_qkv", all3);
    assert_layers("Q2_K", &plain, "attn_q", all2);
    assert_layers("Q2_K", &plain, "ffn_gate", all2);
    assert_layers("Q3_K_S", &plain, "attn_v", all3);
    assert_layers("Q3_K_S", &plain, "ffn_down", all3);
    assert_layers("Q3_K_M", &plain, "attn_v", "55444444444444444444444444444444");
    assert_layers("Q3_K_M", &plain, "ffn_down", "55444444444444444444444444444444");
    assert_layers("Q3_K_M", &plain, "attn_output", all4);
    assert_layers("Q3_K_M", &plain, "attn_qkv", "55444444444444444444444444444444");
    assert_layers("Q3_K_M", &plain, "attn_k", all3);
    assert_layers("Q3_K_L", &plain, "attn_v", all5);
    assert_layers("Q3_K_L", &plain, "ffn_down", all5);
    assert_layers("Q3_K_L", &plain, "attn_output", all5);
    assert_layers("Q3_K_L", &plain, "attn_qkv", all5);
    assert_layers("Q4_K_S", &plain, "attn_v", "55554444444444444444444444444444");
    assert_layers("Q4_K_S", &plain, "ffn_down", "55554444444444444444444444444444");
    assert_layers("Q4_K_S", &plain, "attn_output", all4);
    assert_layers("Q4_K_M", &plain, "attn_v", more4);
    assert_layers("Q4_K_M", &plain, "ffn_down", more4);
    assert_layers("Q4_K_M", &plain, "attn_output", all4);
    assert_layers("Q4_K_M", &plain, "attn_qkv", more4);
    assert_layers("Q5_K_S", &plain, "attn_v", all5);
    assert_layers("Q5_K_M", &plain, "attn_v", more5);
    assert_layers("Q5_K_M", &plain, "ffn_down", more5);
    assert_layers("Q5_K_M", &plain, "attn_qkv", more5);
    assert_layers("Q6_K", &plain, "attn_v", all6);
    // few layers: n = 6 takes 2 and 5
    const struct recipe_facts six = {.n_layers = 6, .n_heads = 4, .n_kv_heads = 2};
    assert_layers("Q4_K_M", &six, "ffn_down", "446446");
    assert_layers("Q3_K_M", &six, "ffn_down", "444444");
    assert_layers("Q4_K_S", &six, "ffn_down", "444444");
    assert_layers("Q4_K_S", &six, "attn_v", "555544");
    const struct recipe_facts eight = {.n_layers = 8, .n_heads = 4, .n_kv_heads = 4};
    assert_layers("Q4_K_M", &eight, "ffn_down", "64464466");
}

static void the_70b_rule(void **state)
{
    (void)state;
    static const struct {
        const char *arch;
        int layers, heads, kv_heads;
        bool is;
    } models[] = {{"llama", 80, 64, 8, true},  {"llama", 80, 64, 64, false},
                  {"llama", 79, 64, 8, false}, {"qwen2", 80, 64, 8, true},
                  {"qwen2", 80, 64, 64, true}, {"deci", 80, 64, 64, true},
                  {"qwen3", 80, 64, 8, false}, {"gpt2", 80, 64, 64, false}};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        assert_int_equal(recipe_is_70b(models[i].arch, models[i].layers, models[i].heads,
                                       models[i].kv_heads),
                         models[i].is);
    struct recipe_facts f = {.n_layers = 80, .n_heads = 64, .n_kv_heads = 8, .is_70b = true};
    struct recipe r = made(&(struct recipe_options){.type = "Q4_K_M"});
    assert_string_equal(choose(&r, &f, "blk.10.attn_v.weight", 8192), "q5_k");
    assert_string_equal(choose(&r, &f, "blk.10.ffn_down.weight", 8192), "q4_k");
    f.is_70b = false;
    assert_string_equal(choose(&r, &f, "blk.10.attn_v.weight", 8192), "q4_k");
    recipe_free(&r);
}

static void the_head_and_the_embedding(void **state)
{
    (void)state;
    static const struct {
        const char *type, *head, *embd;
    } want[] = {
        {"Q2_K", "q6_k", "q2_k"},   {"Q3_K_M", "q6_k", "q3_k"}, {"Q4_0", "q6_k", "q4_0"},
        {"Q4_K_M", "q6_k", "q4_k"}, {"Q6_K", "q6_k", "q6_k"},   {"Q8_0", "q8_0", "q8_0"},
        {"TQ1_0", "q6_k", "q4_k"},  {"TQ2_0", "q6_k", "q4_k"},  {"F16", "f16", "f16"},
        {"BF16", "bf16", "bf16"},   {"F32", "f32", "f32"},      {"IQ4_XS", "q6_k", "iq4_xs"},
    };
    struct recipe_facts tied = plain;
    tied.tied = true;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct recipe r;
        if (recipe_init(&r, &(struct recipe_options){.type = want[i].type}))
            fail_msg("%s", err_text());
        assert_string_equal(choose(&r, &plain, "output.weight", 256), want[i].head);
        assert_string_equal(choose(&r, &plain, "token_embd.weight", 256), want[i].embd);
        assert_string_equal(choose(&r, &tied, "token_embd.weight", 256), want[i].head);
        recipe_free(&r);
    }
}

static void rows_that_are_no_whole_blocks_fall_back(void **state)
{
    (void)state;
    static const struct {
        const char *type, *at_96, *at_100;
    } want[] = {{"Q2_K", "q4_0", "f16"},     {"Q3_K_S", "q4_0", "f16"}, {"Q4_K_M", "q5_0", "f16"},
                {"IQ4_XS", "iq4_nl", "f16"}, {"Q5_K_M", "q5_1", "f16"}, {"Q6_K", "q8_0", "f16"},
                {"Q4_0", "q4_0", "f16"},     {"Q8_0", "q8_0", "f16"},   {"TQ1_0", "q4_0", "f16"},
                {"TQ2_0", "q4_0", "f16"},    {"BF16", "bf16", "bf16"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct recipe r = made(&(struct recipe_options){.type = want[i].type});
        struct recipe_choice c;
        const struct recipe_tensor t = {"blk.5.attn_q.weight", 2, 96, &dtype_f32};
        assert_string_equal(choose(&r, &plain, t.name, 96), want[i].at_96);
        assert_string_equal(choose(&r, &plain, t.name, 100), want[i].at_100);
        assert_int_equal(recipe_choose(&r, &plain, &t, &c), 0);
        assert_ptr_equal(c.wanted, r.mix->base); // so that it can be reported
        recipe_free(&r);
    }
    struct recipe r = made(&(struct recipe_options){.type = "Q4_K_M"});
    assert_string_equal(choose(&r, &plain, "output.weight", 96), "q8_0");
    assert_string_equal(choose(&r, &plain, "blk.0.ffn_down.weight", 96), "q8_0"); // of q6_k
    recipe_free(&r);
}

static void what_is_no_matrix_stays(void **state)
{
    (void)state;
    static const char *const names[] = {"blk.0.attn_norm.weight", "blk.0.attn_q_norm.weight",
                                        "position_embd.weight",   "blk.0.attn_q.bias",
                                        "output_norm.weight",     "rope_freqs"};
    struct recipe r = made(&(
        struct recipe_options){.type = "Q4_0", .rules = (const char *[]){".=q8_0"}, .n_rules = 1});
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct recipe_choice c;
        const struct recipe_tensor t = {names[i], 2, 256, &dtype_bf16};
        assert_int_equal(recipe_choose(&r, &plain, &t, &c), 0);
        assert_false(c.matrix);
        assert_ptr_equal(c.dt, &dtype_bf16);
    }
    struct recipe_choice c;
    assert_int_equal(recipe_choose(&r, &plain,
                                   &(struct recipe_tensor){"rope_freqs.weight", 1, 64, &dtype_f32},
                                   &c),
                     0);
    assert_false(c.matrix);
    recipe_free(&r);
}

static void options_go_before_the_mix(void **state)
{
    (void)state;
    struct recipe_facts tied = plain;
    tied.tied = true;
    const char *rules[] = {"ffn_.*down=Q8_0", "blk\\.(0|31)\\.=q6_K", "ffn=q4_0"};
    struct recipe r = made(&(struct recipe_options){
        .type = "q4_k_m", .output = "Q8_0", .embedding = "f16", .rules = rules, .n_rules = 3});
    assert_string_equal(choose(&r, &plain, "output.weight", 256), "q8_0");
    assert_string_equal(choose(&r, &plain, "token_embd.weight", 256), "f16");
    assert_string_equal(choose(&r, &plain, "blk.31.ffn_down.weight", 256), "q8_0"); // the first
    assert_string_equal(choose(&r, &plain, "blk.31.attn_q.weight", 256), "q6_k");
    assert_string_equal(choose(&r, &plain, "blk.30.attn_q.weight", 256), "q4_k");
    assert_string_equal(choose(&r, &plain, "blk.7.ffn_up.weight", 256), "q4_0");
    recipe_free(&r);
    r = made(&(struct recipe_options){.type = "Q4_K", .output = "q5_0"});
    assert_string_equal(choose(&r, &tied, "token_embd.weight", 256), "q5_0");
    assert_string_equal(choose(&r, &plain, "token_embd.weight", 256), "q4_k");
    recipe_free(&r);
    r = made(&(struct recipe_options){.type = "15", .pure = true, .rules = rules, .n_rules = 1});
    assert_string_equal(r.mix->name, "Q4_K_M");
    assert_string_equal(choose(&r, &plain, "output.weight", 256), "q4_k");
    assert_string_equal(choose(&r, &plain, "blk.0.attn_v.weight", 256), "q4_k");
    assert_string_equal(choose(&r, &plain, "blk.0.ffn_down.weight", 256), "q8_0");
    recipe_free(&r);
    r = made(&(struct recipe_options){.type = "Q4_K_M", .leave_output = true});
    assert_string_equal(choose(&r, &plain, "output.weight", 256), "f32");
    assert_string_equal(choose(&r, &plain, "token_embd.weight", 256), "q4_k");
    recipe_free(&r);
}

static void importance_changes_three_mixes(void **state)
{
    (void)state;
    struct recipe_facts weighed = plain;
    weighed.weighed = true;
    struct recipe r = made(&(struct recipe_options){.type = "Q4_0"});
    assert_string_equal(choose(&r, &plain, "blk.3.ffn_down.weight", 256), "q4_0");
    assert_string_equal(choose(&r, &weighed, "blk.3.ffn_down.weight", 256), "q4_1");
    assert_string_equal(choose(&r, &weighed, "blk.4.ffn_down.weight", 256), "q4_0");
    recipe_free(&r);
    r = made(&(struct recipe_options){.type = "IQ4_NL"});
    assert_string_equal(choose(&r, &plain, "blk.3.ffn_down.weight", 256), "q5_k");
    assert_string_equal(choose(&r, &weighed, "blk.3.ffn_down.weight", 256), "iq4_nl");
    recipe_free(&r);
    r = made(&(struct recipe_options){.type = "Q2_K_S"});
    struct recipe_choice c;
    const struct recipe_tensor t = {"blk.9.attn_q.weight", 2, 256, &dtype_f32};
    assert_int_equal(recipe_choose(&r, &plain, &t, &c), -1);
    assert_non_null(strstr(err_text(), "importance"));
    assert_string_equal(choose(&r, &weighed, "blk.9.attn_q.weight", 256), "q2_k");
    assert_string_equal(choose(&r, &weighed, "blk.3.ffn_down.weight", 256), "q4_k");
    assert_string_equal(choose(&r, &weighed, "blk.4.ffn_down.weight", 256), "q2_k");
    assert_string_equal(choose(&r, &plain, "token_embd.weight", 256), "q2_k");
    recipe_free(&r);
}

static void assert_refused(const struct recipe_options *o, const char *part)
{
    struct recipe r;
    assert_int_equal(recipe_init(&r, o), -1);
    if (!strstr(err_text(), part))
        fail_msg("'%s' is not in '%s'", part, err_text());
}

static void mistakes_are_named(void **state)
{
    (void)state;
    const char *bad[] = {"ffn", "ffn=q9_k", "ff(n=q4_k", "=q4_k"};
    assert_refused(&(struct recipe_options){.type = "Q4_K_N"}, "did you mean");
    assert_refused(&(struct recipe_options){.type = "99"}, "no type '99'");
    assert_refused(&(struct recipe_options){.type = "F16", .output = "q4_k_m"}, "head");
    assert_refused(&(struct recipe_options){.type = "F16", .embedding = "q8_k"}, "embedding");
    assert_refused(&(struct recipe_options){.type = "F16", .embedding = "i32"}, "embedding");
    assert_refused(&(struct recipe_options){.type = "F16", .rules = bad, .n_rules = 1},
                   "REGEX=TYPE");
    assert_refused(&(struct recipe_options){.type = "F16", .rules = bad + 1, .n_rules = 1}, "q9_k");
    assert_refused(&(struct recipe_options){.type = "F16", .rules = bad + 2, .n_rules = 1},
                   "pattern");
    assert_refused(&(struct recipe_options){.type = "F16", .rules = bad + 3, .n_rules = 1},
                   "REGEX=TYPE");
    struct recipe r = made(&(
        struct recipe_options){.type = "Q4_0", .rules = (const char *[]){"up=q4_k"}, .n_rules = 1});
    struct recipe_choice c;
    assert_int_equal(
        recipe_choose(&r, &plain, &(struct recipe_tensor){"blk.0.ffn_up.weight", 2, 96, &dtype_f32},
                      &c),
        -1);
    assert_non_null(strstr(err_text(), "rows of 96 are no whole blocks of 256"));
    assert_int_equal(
        recipe_choose(&r, &plain,
                      &(struct recipe_tensor){"blk.32.ffn_up.weight", 2, 256, &dtype_f32}, &c),
        -1);
    assert_non_null(strstr(err_text(), "32 layers"));
    assert_int_equal(recipe_choose(&r, &plain,
                                   &(struct recipe_tensor){"blk.99999999999.ffn_up.weight", 2, 256,
                                                           &dtype_f32},
                                   &c),
                     0);
    recipe_free(&r);
}

/* File types are llama.h's numbers, once each. */
static void numbers_are_those_of_llama_h(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint32_t id;
    } want[] = {{"F32", 0},     {"f16", 1},     {"Q4_0", 2},    {"q8_0", 7},    {"Q2_K", 10},
                {"Q2_K_S", 21}, {"Q3_K_S", 11}, {"Q3_K_M", 12}, {"Q3_K_L", 13}, {"Q4_K_S", 14},
                {"Q4_K_M", 15}, {"Q5_K_S", 16}, {"Q5_K_M", 17}, {"Q6_K", 18},   {"BF16", 32},
                {"TQ1_0", 36},  {"TQ2_0", 37},  {"Q3_K", 12},   {"q4_k", 15},   {"Q5_K", 17}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_int_equal(recipe_mix_find(want[i].name)->id, want[i].id);
    for (int i = 0; recipe_mix_at(i); i++)
        for (int k = 0; k < i; k++)
            assert_int_not_equal(recipe_mix_at(i)->id, recipe_mix_at(k)->id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mixes_are_those_of_llama_quantize),
        cmocka_unit_test(the_70b_rule),
        cmocka_unit_test(the_head_and_the_embedding),
        cmocka_unit_test(rows_that_are_no_whole_blocks_fall_back),
        cmocka_unit_test(what_is_no_matrix_stays),
        cmocka_unit_test(options_go_before_the_mix),
        cmocka_unit_test(importance_changes_three_mixes),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(numbers_are_those_of_llama_h),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
