/* f16 <-> f32: to nearest, ties to even, NaN quiet; exact the other way. Of NaN the
   first bits stay: what x86 and ARM do, to the bit. */
#ifndef ATTAR_AUTOGRAD_BASE_HALF_H
#define ATTAR_AUTOGRAD_BASE_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint32_t half_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float half_from(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline uint16_t half_of(float x)
{
    const uint32_t u = half_bits(x), sign = u >> 16 & 0x8000, mag = u & 0x7fffffff;
    if (mag > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (mag >> 13 & 0x3ff));
    if (mag >= 0x477ff000) // 65520 and above round to infinity
        return (uint16_t)(sign | 0x7c00);
    if (mag < 0x38800000) // subnormal: adding 0.5 aligns the units in the last place
        return (uint16_t)(sign | (half_bits(half_from(mag) + 0.5f) - 0x3f000000));
    return (uint16_t)(sign | (((mag + 0xfff + (mag >> 13 & 1)) >> 13) - 0x1c000));
}

static inline float half_float(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7fff;
    if (mag >= 0x7c00) // NaN becomes quiet, as the instructions for it do
        return half_from(sign | 0x7f800000 | (mag & 0x3ff) << 13 | (mag > 0x7c00) << 22);
    if (mag < 0x400)
        return half_from(sign | half_bits((float)mag * 0x1p-24f));
    return half_from(sign | ((mag << 13) + 0x38000000));
}

#endif
