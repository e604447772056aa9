// Numbers of the engine's kernels (decode.cpp): sixteen at a time, bf16, and the products of codes.

#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <sched.h>
#endif

#include "numbers.h"

using u8 = uint8_t;
using u16 = uint16_t;

typedef float v16f __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef uint32_t v16u __attribute__((vector_size(64)));
typedef u16 v16h __attribute__((vector_size(32)));
typedef u8 v64b __attribute__((vector_size(64)));

static const i64 LANES = 16, UNIT = 32, GROUP = 32, PAGE = 16;

// ------------------------------------------------------------------ numbers

static inline v16f load16(const float *p) {
    v16f x;
    std::memcpy(&x, p, 64);
    return x;
}
static inline v16f load16(const bf16 *p) {
    v16h x;
    std::memcpy(&x, p, 32);
    return (v16f)(__builtin_convertvector(x, v16u) << 16);
}
static inline void store16(float *p, v16f x) { std::memcpy(p, &x, 64); }

static inline float sum16(v16f x) {  // in one fixed order
    float lane[16];
    std::memcpy(lane, &x, 64);
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; i++) lane[i] += lane[i + width];
    return lane[0];
}

// acc[lane] += sum of four products of unsigned weight bytes and the four signed bytes at x. `wide` weights use
// all eight bits; for them the plain AVX2 product would overflow, so their sign is taken apart, and WIDE_BIAS,
// which the caller subtracts times the sum of x, is 0.
#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
static const int WIDE_BIAS = 128;
template <bool wide> static inline v16i dot4(v16i acc, v64b w, const int8_t *x) {
    int32_t four;
    std::memcpy(&four, x, 4);
    return (v16i)_mm512_dpbusd_epi32((__m512i)acc, (__m512i)w, _mm512_set1_epi32(four));
}
#elif defined(__AVX2__)
static const int WIDE_BIAS = 0;
template <bool wide> static inline v16i dot4(v16i acc, v64b w, const int8_t *x) {
    int32_t four;
    std::memcpy(&four, x, 4);
    __m256i a = _mm256_set1_epi32(four), ones = _mm256_set1_epi16(1), part[2], sum[2];
    std::memcpy(part, &w, 64);
    std::memcpy(sum, &acc, 64);
    for (int half = 0; half < 2; half++) {
        __m256i pairs;
        if (wide) {
            __m256i s = _mm256_xor_si256(part[half], _mm256_set1_epi8((char)0x80));
            pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(s), _mm256_sign_epi8(a, s));
        } else {
            pairs = _mm256_maddubs_epi16(part[half], a);
        }
        sum[half] = _mm256_add_epi32(sum[half], _mm256_madd_epi16(pairs, ones));
    }
    std::memcpy(&acc, sum, 64);
    return acc;
}
#else
static const int WIDE_BIAS = 128;
template <bool wide> static inline v16i dot4(v16i acc, v64b w, const int8_t *x) {
    u8 bytes[64];
    int32_t sums[16];
    std::memcpy(bytes, &w, 64);
    std::memcpy(sums, &acc, 64);
#pragma omp simd
    for (int i = 0; i < 16; i++)
        sums[i] += bytes[4 * i] * x[0] + bytes[4 * i + 1] * x[1] + bytes[4 * i + 2] * x[2] +
                   bytes[4 * i + 3] * x[3];
    std::memcpy(&acc, sums, 64);
    return acc;
}
#endif

// acc += the product of sixteen pairs of bf16 weights and the pair at x.
#if defined(__AVX512BF16__)
typedef bf16 half_input;
static inline v16f dot2(v16f acc, const bf16 *w, const half_input *x) {
    int32_t pair;
    std::memcpy(&pair, x, 4);
    return (v16f)_mm512_dpbf16_ps((__m512)acc, (__m512bh)_mm512_loadu_si512(w),
                                  (__m512bh)_mm512_set1_epi32(pair));
}
#else
typedef float half_input;  // no such product here: the activations stay whole
static inline v16f dot2(v16f acc, const bf16 *w, const half_input *x) {
    v16u pairs;
    std::memcpy(&pairs, w, 64);
    acc += (v16f)(pairs << 16) * x[0];
    return acc + (v16f)(pairs & 0xffff0000u) * x[1];
}
#endif
