/* libFuzzer: any bytes as an importance matrix of either kind. What is accepted has finite means,
   and can be found by name. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "autograd/base/err.h"
#include "compress/imatrix.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct imatrix m;
    if (imatrix_parse(&m, data, size))
        return 0;
    for (size_t i = 0; i < m.n; i++) {
        const struct imatrix_entry *e = &m.entry[i];
        const int64_t n = e->cols * e->mats;
        if ((uint64_t)n * sizeof(float) > size || imatrix_find(&m, e->name) != e)
            BUG("entry %zu of %lld values", i, (long long)n);
        float *mean = malloc((size_t)n * sizeof *mean);
        imatrix_mean(e, mean);
        for (int64_t k = 0; k < n; k++)
            if (isnan(mean[k]) || mean[k] < 0)
                BUG("value %lld of entry %zu is %g", (long long)k, i, (double)mean[k]);
        free(mean);
    }
    imatrix_free(&m);
    return 0;
}
