#include "autograd/cost.h"

void cost_product(struct cost *c, enum cost_kind kind, const struct dtype *dt, int64_t M, int64_t N,
                  int64_t K, int64_t times)
{
    if (times < 1 || M < 1)
        return;
    if (c->n == COST_PRODUCTS)
        BUG("an op with more than %d products", COST_PRODUCTS);
    c->product[c->n++] = (struct product){
        .kind = kind,
        .dt = dt,
        .M = M,
        .N = N,
        .K = K,
        .flops = 2 * (double)M * (double)N * (double)K,
        .times = (double)times,
    };
}

void cost_rows(struct cost *c, const struct tensor *t, double passes)
{
    if (t)
        c->bytes += passes * (double)tensor_bytes(t);
}

double cost_flops(const struct cost *c)
{
    double sum = 0;
    for (int i = 0; i < c->n; i++)
        sum += c->product[i].flops * c->product[i].times;
    return sum;
}
