// What Python describes to decode.cpp, the threads that work on it, and matrices times activations.

#pragma once

#include "decode_numbers.h"

// ------------------------------------------------------------------ what Python describes (native_decoder.py)

enum Kind { FP32 = 0, BF16 = 1, INT8 = 2, INT4 = 3 };

struct Matrix {
    i64 kind, out, columns;     // as the model has them
    i64 in, groups, units;      // columns in whole GROUPs, how many of them, rows in whole UNITs
    const void *codes;                 // units one behind the other, laid out by `pack_*`
    const float *scales;               // int8: one a row, units * UNIT of them
    const float *bias;                 // units * UNIT of them, or null
};

struct Norm {
    const float *weight, *bias;
};

struct Layer {
    Norm attention_norm, mlp_norm;
    Matrix qkv, o, up, down;
};

struct Model {
    i64 layers, hidden, heads, kv, size, inner, half, window, parallel, layer_norm, activation;
    i64 embedding_kind;
    double eps, scale, residual, embedding_scale, limit;
    const void *embedding;
    const Layer *layer;
    Norm norm;
    Matrix head;
};

struct Pass {
    i64 tokens, spans, wanted, table_width, pages, cache_kind, threads;
    const i64 *ids;            // (tokens)
    const i64 *span;           // (spans, 3): first token of the pass, how many, how many are in the cache already
    const int32_t *table;      // (spans, table_width): pages of each span's sequence
    const float *cos, *sin;    // (tokens, half)
    const i64 *want;           // (wanted): tokens whose results are asked for
    void *keys, *values;       // (layers, pages, K, d, PAGE) and (layers, pages, K, PAGE, d)
    float *hidden;             // (wanted, hidden) after the last norm
    float *logits;             // (wanted, units of the head * UNIT), or null
};

// ------------------------------------------------------------------ a team of threads that wait for each other

typedef void (*parallel_t)(void (*)(void *), void *, unsigned, unsigned);
typedef int (*thread_t)();
static parallel_t omp_parallel = nullptr;
static thread_t omp_thread = nullptr, omp_team = nullptr;

struct Barrier {
    std::atomic<int> arrived{0}, round{0};
    void wait(int team) {
        if (team < 2) return;
        int mine = round.load(std::memory_order_relaxed);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) == team - 1) {
            arrived.store(0, std::memory_order_relaxed);
            round.store(mine + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; round.load(std::memory_order_acquire) == mine; spins++) {
#if defined(__x86_64__)
            _mm_pause();
#endif
            if (spins > 4000) sched_yield();
        }
    }
};

struct Share {
    i64 first, last;
};
static inline Share share(i64 count, int me, int team) {
    return {count * me / team, count * (me + 1) / team};
}

// ------------------------------------------------------------------ activations as a matrix wants them

struct Input {
    float *wide;      // FP32, and BF16 where there is no such product
    bf16 *halves;     // BF16
    int8_t *codes;    // INT8 and INT4, with a scale and the sum of the codes a group
    float *scales;
    int32_t *sums;
};

// x: m.in numbers, of which those behind m.columns are set to 0 here.
static void prepare(const Matrix &m, float *x, const Input &to, i64 row) {
    for (i64 i = m.columns; i < m.in; i++) x[i] = 0;
    if (m.kind == FP32) {
        std::memcpy(to.wide + row * m.in, x, m.in * 4);
    } else if (m.kind == BF16) {
#if defined(__AVX512BF16__)
        bf16 *y = to.halves + row * m.in;
        for (i64 i = 0; i < m.in; i++) store(y + i, x[i]);
#else
        std::memcpy(to.wide + row * m.in, x, m.in * 4);
#endif
    } else {
        for (i64 g = 0; g < m.groups; g++) {
            const float *from = x + g * GROUP;
            int8_t *code = to.codes + row * m.in + g * GROUP;
            float most = 0;
#pragma omp simd reduction(max : most)
            for (int i = 0; i < GROUP; i++) most = std::fabs(from[i]) > most ? std::fabs(from[i]) : most;
            float factor = most > 0 ? 127.0f / most : 0.0f;
            int32_t sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int i = 0; i < GROUP; i++) {
                float scaled = from[i] * factor + 12582912.0f;  // rounds to a whole number, as in `exponential`
                int32_t bits;
                std::memcpy(&bits, &scaled, 4);
                int32_t whole = (int32_t)((uint32_t)bits << 10) >> 10;  // the low 22 bits, with their sign
                code[i] = (int8_t)whole;
                sum += whole;
            }
            to.scales[row * m.groups + g] = most / 127.0f;
            to.sums[row * m.groups + g] = sum;
        }
    }
}

// ------------------------------------------------------------------ products: y[row, unit] = W x

template <int R> static void rows_fp32(const float *w, i64 in, const float *x, float *y, i64 stride) {
    v16f acc[R][2] = {};
    for (i64 k = 0; k < in; k++) {
        v16f one = load16(w + k * UNIT), two = load16(w + k * UNIT + LANES);
        for (int r = 0; r < R; r++) {
            acc[r][0] += one * x[r * in + k];
            acc[r][1] += two * x[r * in + k];
        }
    }
    for (int r = 0; r < R; r++)
        for (int b = 0; b < 2; b++) store16(y + r * stride + b * LANES, acc[r][b]);
}

template <int R> static void rows_bf16(const bf16 *w, i64 in, const half_input *x, float *y, i64 stride) {
    v16f acc[R][2] = {};
    for (i64 k = 0; k < in; k += 2) {
        for (int r = 0; r < R; r++) {
            acc[r][0] = dot2(acc[r][0], w + k * UNIT, x + r * in + k);
            acc[r][1] = dot2(acc[r][1], w + k * UNIT + 2 * LANES, x + r * in + k);
        }
    }
    for (int r = 0; r < R; r++)
        for (int b = 0; b < 2; b++) store16(y + r * stride + b * LANES, acc[r][b]);
}

static const i64 INT4_BYTES = 16 * UNIT, INT4_STEP = INT4_BYTES + 2 * UNIT;  // of a group: codes, bf16 scales

// Codes of one group, as sixteen vectors: eight fours of columns of the first LANES rows, then of the others.
template <Kind kind> static inline void group_codes(const u8 *from, v64b *w) {
    if (kind == INT4) {
        for (int b = 0; b < 2; b++)
            for (int k = 0; k < 4; k++) {
                v64b both;
                std::memcpy(&both, from + (b * 4 + k) * 64, 64);
                w[b * 8 + k] = both & 15;
                w[b * 8 + k + 4] = (v64b)(((v16u)both >> 4) & 0x0f0f0f0fu);
            }
    } else {
        std::memcpy(w, from, 16 * 64);
    }
}

// codes: a unit's, INT4_STEP (int4) or GROUP * UNIT (int8) bytes a group. Taking 4-bit codes apart anew for every
// four rows costs less than keeping them: half the bytes come from the cache.
template <int R, Kind kind>
static void rows_int(const Matrix &m, i64 unit, const u8 *codes, const Input &x, i64 row, float *y, i64 stride) {
    const bool wide = kind == INT8;
    const int bias = wide ? WIDE_BIAS : 8;
    v16f acc[R][2] = {};
    for (i64 g = 0; g < m.groups; g++) {
        const u8 *here = codes + g * (kind == INT4 ? INT4_STEP : GROUP * UNIT);
        v64b w[16];
        group_codes<kind>(here, w);
        v16f one = {}, two = {};
        if (kind == INT4) {
            one = load16((const bf16 *)(here + INT4_BYTES));
            two = load16((const bf16 *)(here + INT4_BYTES) + LANES);
        }
        for (int r = 0; r < R; r++) {
            const int8_t *a = x.codes + (row + r) * m.in + g * GROUP;
            v16i first = (v16i){} - bias * x.sums[(row + r) * m.groups + g], second = first;
            for (int k = 0; k < 8; k++) {
                first = dot4<wide>(first, w[k], a + 4 * k);
                second = dot4<wide>(second, w[k + 8], a + 4 * k);
            }
            float scale = x.scales[(row + r) * m.groups + g];
            if (kind == INT4) {
                acc[r][0] += __builtin_convertvector(first, v16f) * (one * scale);
                acc[r][1] += __builtin_convertvector(second, v16f) * (two * scale);
            } else {
                acc[r][0] += __builtin_convertvector(first, v16f) * scale;
                acc[r][1] += __builtin_convertvector(second, v16f) * scale;
            }
        }
    }
    for (int r = 0; r < R; r++)
        for (int b = 0; b < 2; b++) {
            v16f out = acc[r][b];
            if (kind == INT8) out *= load16(m.scales + unit * UNIT + b * LANES);
            store16(y + r * stride + b * LANES, out);
        }
}

// f(rows at once, first row) over all rows; how they are taken together changes no number.
template <int most, class F> static inline void in_blocks(i64 rows, const F &f) {
    i64 row = 0;
    if (most >= 8)
        for (; row + 8 <= rows; row += 8) f(std::integral_constant<int, 8>(), row);
    for (; row + 4 <= rows; row += 4) f(std::integral_constant<int, 4>(), row);
    for (; row + 2 <= rows; row += 2) f(std::integral_constant<int, 2>(), row);
    for (; row < rows; row++) f(std::integral_constant<int, 1>(), row);
}

// y (rows, stride) = x W^T + bias; this thread's units of all of them.
static void multiply(const Matrix &m, const Input &x, i64 rows, float *y, i64 stride, int me, int team) {
    Share mine = share(m.units, me, team);
    for (i64 unit = mine.first; unit < mine.last; unit++) {
        float *to = y + unit * UNIT;
        if (m.kind == FP32) {
            const float *w = (const float *)m.codes + unit * m.in * UNIT;
            in_blocks<8>(rows, [&](auto R, i64 row) {
                rows_fp32<R.value>(w, m.in, x.wide + row * m.in, to + row * stride, stride);
            });
        } else if (m.kind == BF16) {
            const bf16 *w = (const bf16 *)m.codes + unit * m.in * UNIT;
#if defined(__AVX512BF16__)
            const half_input *input = x.halves;
#else
            const half_input *input = x.wide;
#endif
            in_blocks<8>(rows, [&](auto R, i64 row) {
                rows_bf16<R.value>(w, m.in, input + row * m.in, to + row * stride, stride);
            });
        } else if (m.kind == INT8) {
            const u8 *w = (const u8 *)m.codes + unit * m.in * UNIT;
            in_blocks<4>(rows, [&](auto R, i64 row) {
                rows_int<R.value, INT8>(m, unit, w, x, row, to + row * stride, stride);
            });
        } else {
            const u8 *w = (const u8 *)m.codes + unit * m.groups * INT4_STEP;
            in_blocks<4>(rows, [&](auto R, i64 row) {
                rows_int<R.value, INT4>(m, unit, w, x, row, to + row * stride, stride);
            });
        }
        if (m.bias)
            for (i64 row = 0; row < rows; row++)
                for (int i = 0; i < UNIT; i++) to[row * stride + i] += m.bias[unit * UNIT + i];
    }
}
