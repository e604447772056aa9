// bf16 and e^x, as all compiled kernels read them: those of training (kernels.cpp) and of the engine (decode.cpp).

#pragma once

#include <cstdint>
#include <cstring>

using i64 = int64_t;

struct bf16 {
    uint16_t bits;
};

static inline float load(float x) { return x; }
static inline float load(bf16 x) {
    uint32_t wide = (uint32_t)x.bits << 16;
    float f;
    std::memcpy(&f, &wide, 4);
    return f;
}
static inline void store(float *p, float x) { *p = x; }
static inline void store(bf16 *p, float x) {  // to nearest, ties to even; NaN stays NaN
    uint32_t wide;
    std::memcpy(&wide, &x, 4);
    uint32_t rounded = (wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16;
    p->bits = (uint16_t)(x != x ? 0x7fc0u : rounded);
}

// e^x to two units in the last place: 2^n times a polynomial of the rest; 0 below -87, NaN stays NaN.
static inline float exponential(float x) {
    float y = x > 88.0f ? 88.0f : x;
    y = y < -87.0f ? -87.0f : y;
    const float magic = 12582912.0f;  // 1.5 * 2^23: adding it rounds to a whole number
    float shifted = y * 1.44269504f + magic;
    float n = shifted - magic;
    float r = (y - n * 0.693359375f) + n * 2.12194440e-4f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits;
    std::memcpy(&bits, &shifted, 4);
    bits = (bits << 23) + 0x3f800000u;  // 2^n: the whole number stands in the low bits of `shifted`
    float power;
    std::memcpy(&power, &bits, 4);
    float result = p * power;
    return x < -87.0f ? 0.0f : result;
}
