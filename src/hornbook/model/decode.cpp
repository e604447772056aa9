// A whole pass of a dense decoder over the engine's pages: embeddings, layers, head. Built by
// hornbook/model/native.py for the very processor it runs on; hornbook/infer/packed.py does the same with torch,
// is used where there is no compiler, and is what the tests compare against.
//
// Letters: N tokens of a pass, d head size, K key-value heads. All sums are fp32 (integer codes: int32 within a
// group). Every number of a row is computed in the same order whatever else is in the pass: a request gives the
// same bits alone and in any batch, read at once or in pieces.

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

using i64 = int64_t;
using u8 = uint8_t;
using u16 = uint16_t;

typedef float v16f __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef uint32_t v16u __attribute__((vector_size(64)));
typedef u16 v16h __attribute__((vector_size(32)));
typedef u8 v64b __attribute__((vector_size(64)));

static const i64 LANES = 16, UNIT = 32, GROUP = 32, PAGE = 16;

// ------------------------------------------------------------------ numbers

struct bf16 {
    u16 bits;
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
    p->bits = (u16)(x != x ? 0x7fc0u : rounded);
}

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

// ------------------------------------------------------------------ norms, activations, rotary positions

static void normed(const Norm &norm, const Model &m, const float *x, float *y) {
    v16f sums = {};
    i64 whole = m.hidden / LANES * LANES;
    float mean = 0;
    if (m.layer_norm) {
        for (i64 i = 0; i < whole; i += LANES) sums += load16(x + i);
        float sum = sum16(sums);
        for (i64 i = whole; i < m.hidden; i++) sum += x[i];
        mean = sum / m.hidden;
        sums = (v16f){};
    }
    for (i64 i = 0; i < whole; i += LANES) {
        v16f away = load16(x + i) - mean;
        sums += away * away;
    }
    float squares = sum16(sums);
    for (i64 i = whole; i < m.hidden; i++) squares += (x[i] - mean) * (x[i] - mean);
    float factor = 1.0f / std::sqrt(squares / m.hidden + (float)m.eps);
    for (i64 i = 0; i < m.hidden; i++) {
        float value = (x[i] - mean) * factor * norm.weight[i];
        y[i] = norm.bias ? value + norm.bias[i] : value;
    }
}

// `up` (gate values then up values, or the values alone, or gate and up by turns) to the inner values.
static void activate(const Model &m, const float *up, float *y, i64 first, i64 last) {
    if (m.activation == 0) {
#pragma omp simd
        for (i64 i = first; i < last; i++) y[i] = up[i] / (1.0f + exponential(-up[i])) * up[m.inner + i];
    } else if (m.activation == 1) {
#pragma omp simd
        for (i64 i = first; i < last; i++) {
            float x = up[i], t = 0.7978845608f * (x + 0.044715f * x * x * x);
            y[i] = x - x / (exponential(2.0f * t) + 1.0f);  // x (1 + tanh t) / 2
        }
    } else {
        float limit = (float)m.limit;
        for (i64 i = first; i < last; i++) {
            float a = up[2 * i], b = up[2 * i + 1];
            if (!std::isinf(a)) a = a > limit ? limit : a;
            if (!std::isinf(b)) b = b > limit ? limit : b < -limit ? -limit : b;
            y[i] = a / (1.0f + exponential(-1.702f * a)) * (b + 1.0f);
        }
    }
}

struct Place {  // of one token of the pass
    i64 span, position;
};

// Turns the token's queries (scaled, in place) and keys; keys and values go into their page.
template <class C> static void file_token(const Model &m, const Pass &p, i64 layer, i64 token, Place at, float *qkv) {
    const float *c = p.cos + token * m.half, *s = p.sin + token * m.half;
    const i64 page = p.table[at.span * p.table_width + at.position / PAGE], slot = at.position % PAGE;
    for (i64 head = 0; head < m.heads + m.kv; head++) {
        float *x = qkv + head * m.size;
#pragma omp simd
        for (i64 i = 0; i < m.half; i++) {
            float one = x[i], two = x[m.half + i];
            x[i] = one * c[i] - two * s[i];
            x[m.half + i] = two * c[i] + one * s[i];
        }
        if (head < m.heads)
            for (i64 i = 0; i < m.size; i++) x[i] *= (float)m.scale;
    }
    for (i64 head = 0; head < m.kv; head++) {
        const i64 place = ((layer * p.pages + page) * m.kv + head) * m.size * PAGE;
        C *key = (C *)p.keys + place + slot, *value = (C *)p.values + place + slot * m.size;
        const float *k = qkv + (m.heads + head) * m.size, *v = k + m.kv * m.size;
        for (i64 i = 0; i < m.size; i++) {
            store(key + i * PAGE, k[i]);
            store(value + i, v[i]);
        }
    }
}

// ------------------------------------------------------------------ attention over pages

// Some queries (I of them: heads of one key head, tokens of one span) over the pages they see.
template <class C, int I>
static void attend(const Model &m, const Pass &p, i64 layer, i64 span, i64 head, const float *const *q,
                   const i64 *position, float *const *out, std::vector<float> &scratch) {
    i64 low = 0, high = position[I - 1] + 1;  // positions never fall from one query to the next
    if (m.window && position[0] + 1 > m.window) low = position[0] + 1 - m.window;
    const i64 first = low / PAGE, count = (high + PAGE - 1) / PAGE - first, width = count * PAGE;
    if ((i64)scratch.size() < I * width) scratch.resize(I * width);
    float *scores = scratch.data();
    const int32_t *table = p.table + span * p.table_width + first;
    const i64 block = m.size * PAGE;
    for (i64 page = 0; page < count; page++) {
        const C *key = (const C *)p.keys + ((layer * p.pages + table[page]) * m.kv + head) * block;
        v16f acc[I] = {};
        for (i64 i = 0; i < m.size; i++) {
            v16f column = load16(key + i * PAGE);
            for (int item = 0; item < I; item++) acc[item] += column * q[item][i];
        }
        for (int item = 0; item < I; item++) store16(scores + item * width + page * PAGE, acc[item]);
    }
    float factor[I];
    for (int item = 0; item < I; item++) {
        float *line = scores + item * width;
        i64 end = position[item] + 1 - first * PAGE, begin = 0;
        if (m.window && position[item] + 1 - m.window > first * PAGE)
            begin = position[item] + 1 - m.window - first * PAGE;
        for (i64 i = end; i < width; i++) line[i] = -INFINITY;
        for (i64 i = 0; i < begin; i++) line[i] = -INFINITY;
        float most = -INFINITY;
#pragma omp simd reduction(max : most)
        for (i64 i = 0; i < width; i++) most = line[i] > most ? line[i] : most;
        v16f sums = {};
        for (i64 i = 0; i < width; i += LANES) {
            float *here = line + i;
#pragma omp simd
            for (int lane = 0; lane < LANES; lane++) here[lane] = exponential(here[lane] - most);
            sums += load16(here);
        }
        factor[item] = 1.0f / sum16(sums);
    }
    i64 from = 0;
    for (; from + UNIT <= m.size; from += UNIT) {
        v16f acc[I][2] = {};
        for (i64 page = 0; page < count; page++) {
            const C *value = (const C *)p.values + ((layer * p.pages + table[page]) * m.kv + head) * block + from;
            for (i64 slot = 0; slot < PAGE; slot++) {
                v16f one = load16(value + slot * m.size), two = load16(value + slot * m.size + LANES);
                for (int item = 0; item < I; item++) {
                    float weight = scores[item * width + page * PAGE + slot];
                    acc[item][0] += one * weight;
                    acc[item][1] += two * weight;
                }
            }
        }
        for (int item = 0; item < I; item++) {
            store16(out[item] + from, acc[item][0] * factor[item]);
            store16(out[item] + from + LANES, acc[item][1] * factor[item]);
        }
    }
    for (; from < m.size; from++)
        for (int item = 0; item < I; item++) {
            float sum = 0;
            for (i64 page = 0; page < count; page++) {
                const C *value = (const C *)p.values + ((layer * p.pages + table[page]) * m.kv + head) * block;
                for (i64 slot = 0; slot < PAGE; slot++)
                    sum += load(value[slot * m.size + from]) * scores[item * width + page * PAGE + slot];
            }
            out[item][from] = sum * factor[item];
        }
}

// All queries of a span for one key head: item i is token i / group, query head i % group.
template <class C>
static void attend_items(const Model &m, const Pass &p, i64 layer, i64 span, i64 head, i64 begin, i64 end,
                         const float *qkv, i64 stride, float *mixed, i64 out_stride, std::vector<float> &scratch) {
    const i64 group = m.heads / m.kv, first = p.span[span * 3], past = p.span[span * 3 + 2];
    in_blocks<8>(end - begin, [&](auto I, i64 from) {
        const float *q[I.value];
        float *out[I.value];
        i64 position[I.value];
        for (int item = 0; item < I.value; item++) {
            i64 token = (begin + from + item) / group, which = head * group + (begin + from + item) % group;
            q[item] = qkv + (first + token) * stride + which * m.size;
            out[item] = mixed + (first + token) * out_stride + which * m.size;
            position[item] = past + token;
        }
        attend<C, I.value>(m, p, layer, span, head, q, position, out, scratch);
    });
}

// ------------------------------------------------------------------ the pass

struct Room {  // everything a pass writes besides the cache and its results
    std::vector<float> x, n, qkv, mixed, up, inner, branch, wide, scales;
    std::vector<bf16> halves;
    std::vector<int8_t> codes;
    std::vector<int32_t> sums;
    Input input;
    std::vector<Place> places;
};

template <class T> static void at_least(std::vector<T> &v, i64 count) {
    if ((i64)v.size() < count) v.resize(count);
}

static i64 padded(i64 n) { return (n + UNIT - 1) / UNIT * UNIT; }

struct Run {
    const Model *model;
    const Pass *pass;
    Room *room;
    Barrier barrier;
};

template <class C> static void all_layers(Run &run, int me, int team) {
    const Model &m = *run.model;
    const Pass &p = *run.pass;
    Room &room = *run.room;
    const i64 hidden = padded(m.hidden), qkv_width = padded((m.heads + 2 * m.kv) * m.size);
    const i64 mixed_width = padded(m.heads * m.size), inner_width = padded(m.inner);
    const i64 up_width = m.activation == 1 ? padded(m.inner) : padded(2 * m.inner);
    float *x = room.x.data(), *n = room.n.data(), *branch = room.branch.data();
    static thread_local std::vector<float> scratch;
    Share rows = share(p.tokens, me, team);
    for (i64 row = rows.first; row < rows.last; row++) {
        float *to = x + row * hidden;
        i64 at = p.ids[row] * m.hidden;
        for (i64 i = 0; i < m.hidden; i++) {
            float value = m.embedding_kind == BF16 ? load(((const bf16 *)m.embedding)[at + i])
                                                   : ((const float *)m.embedding)[at + i];
            to[i] = value * (float)m.embedding_scale;
        }
    }
    const float residual = (float)m.residual;
    for (i64 number = 0; number < m.layers; number++) {
        const Layer &layer = m.layer[number];
        for (i64 row = rows.first; row < rows.last; row++) {
            normed(layer.attention_norm, m, x + row * hidden, n + row * hidden);
            prepare(layer.qkv, n + row * hidden, room.input, row);
        }
        run.barrier.wait(team);
        multiply(layer.qkv, room.input, p.tokens, room.qkv.data(), qkv_width, me, team);
        if (m.parallel) multiply(layer.up, room.input, p.tokens, room.up.data(), up_width, me, team);
        run.barrier.wait(team);
        for (i64 row = rows.first; row < rows.last; row++)
            file_token<C>(m, p, number, row, room.places[row], room.qkv.data() + row * qkv_width);
        run.barrier.wait(team);
        const i64 group = m.heads / m.kv, piece = 8 * ((group + 7) / 8);  // whole tokens where heads allow
        i64 task = 0;
        for (i64 span = 0; span < p.spans; span++) {
            i64 items = p.span[span * 3 + 1] * group;
            for (i64 head = 0; head < m.kv; head++)
                for (i64 begin = 0; begin < items; begin += piece, task++)
                    if (task % team == me)
                        attend_items<C>(m, p, number, span, head, begin, begin + piece < items ? begin + piece : items,
                                        room.qkv.data(), qkv_width, room.mixed.data(), mixed_width, scratch);
        }
        run.barrier.wait(team);
        for (i64 row = rows.first; row < rows.last; row++)
            prepare(layer.o, room.mixed.data() + row * mixed_width, room.input, row);
        run.barrier.wait(team);
        multiply(layer.o, room.input, p.tokens, branch, hidden, me, team);
        run.barrier.wait(team);
        if (!m.parallel) {
            for (i64 row = rows.first; row < rows.last; row++) {
                for (i64 i = 0; i < m.hidden; i++) x[row * hidden + i] += branch[row * hidden + i] * residual;
                normed(layer.mlp_norm, m, x + row * hidden, n + row * hidden);
                prepare(layer.up, n + row * hidden, room.input, row);
            }
            run.barrier.wait(team);
            multiply(layer.up, room.input, p.tokens, room.up.data(), up_width, me, team);
            run.barrier.wait(team);
        } else {
            for (i64 row = rows.first; row < rows.last; row++)
                for (i64 i = 0; i < m.hidden; i++) x[row * hidden + i] += branch[row * hidden + i] * residual;
            run.barrier.wait(team);
        }
        for (i64 row = rows.first; row < rows.last; row++) {
            activate(m, room.up.data() + row * up_width, room.inner.data() + row * inner_width, 0, m.inner);
            prepare(layer.down, room.inner.data() + row * inner_width, room.input, row);
        }
        run.barrier.wait(team);
        multiply(layer.down, room.input, p.tokens, branch, hidden, me, team);
        run.barrier.wait(team);
        for (i64 row = rows.first; row < rows.last; row++)
            for (i64 i = 0; i < m.hidden; i++) x[row * hidden + i] += branch[row * hidden + i] * residual;
    }
    run.barrier.wait(team);
    Share wanted = share(p.wanted, me, team);
    for (i64 i = wanted.first; i < wanted.last; i++) {
        normed(m.norm, m, x + p.want[i] * hidden, n + i * hidden);
        std::memcpy(p.hidden + i * m.hidden, n + i * hidden, m.hidden * 4);
        if (p.logits) prepare(m.head, n + i * hidden, room.input, i);
    }
    if (!p.logits) return;
    run.barrier.wait(team);
    multiply(m.head, room.input, p.wanted, p.logits, m.head.units * UNIT, me, team);
}

static void enter(void *data) {
    Run &run = *(Run *)data;
    int me = omp_thread ? omp_thread() : 0, team = omp_team ? omp_team() : 1;
    if (run.pass->cache_kind == FP32)
        all_layers<float>(run, me, team);
    else
        all_layers<bf16>(run, me, team);
}

// ------------------------------------------------------------------ quantization and packing

// Round to nearest, symmetric: code - 8 in -8 ... 7 times a bf16 scale. Of several scales around the one that
// meets the largest number exactly, the one with the least squared error is taken.
static void quantize_row_int4(const float *w, i64 in, u8 *codes, bf16 *scales) {
    for (i64 g = 0; g < in / GROUP; g++) {
        const float *x = w + g * GROUP;
        float most = 0, at = 0;
        for (int i = 0; i < GROUP; i++)
            if (std::fabs(x[i]) > most) most = std::fabs(x[i]), at = x[i];
        float least = INFINITY;
        bf16 best = {0};
        for (int trial = 0; trial < (most > 0 ? 9 : 0); trial++) {
            bf16 rounded;
            store(&rounded, at / (-8.0f + 0.25f * trial));
            float scale = load(rounded);
            if (scale == 0.0f) continue;
            float inverse = 1.0f / scale, error = 0;
#pragma omp simd reduction(+ : error)
            for (int i = 0; i < GROUP; i++) {
                float code = (x[i] * inverse + 12582912.0f) - 12582912.0f;
                code = code < -8.0f ? -8.0f : code > 7.0f ? 7.0f : code;
                float away = code * scale - x[i];
                error += away * away;
            }
            if (error < least) least = error, best = rounded;
        }
        float scale = load(best), inverse = scale == 0.0f ? 0.0f : 1.0f / scale;
        for (int i = 0; i < GROUP; i++) {
            float code = (x[i] * inverse + 12582912.0f) - 12582912.0f;
            code = code < -8.0f ? -8.0f : code > 7.0f ? 7.0f : code;
            codes[g * GROUP + i] = (u8)(int)(code + 8.0f);
        }
        scales[g] = best;
    }
}

struct Job {
    const void *work;
    void (*call)(const void *, i64);
    i64 count;
};

static void part(void *data) {
    const Job &job = *(const Job *)data;
    int me = omp_thread ? omp_thread() : 0, team = omp_team ? omp_team() : 1;
    Share mine = share(job.count, me, team);
    for (i64 i = mine.first; i < mine.last; i++) job.call(job.work, i);
}

template <class F> static void each(i64 count, int threads, const F &work) {
    Job job = {&work, [](const void *w, i64 i) { (*(const F *)w)(i); }, count};
    if (omp_parallel && threads > 1)
        omp_parallel(part, &job, (unsigned)threads, 0);
    else
        for (i64 i = 0; i < count; i++) work(i);
}

extern "C" {

void use_threads(void *parallel, void *thread, void *team) {
    omp_parallel = (parallel_t)parallel;
    omp_thread = (thread_t)thread;
    omp_team = (thread_t)team;
}

void run_pass(const Model *model, const Pass *pass) {
    static thread_local Room room;
    const Model &m = *model;
    const i64 tokens = pass->tokens, rows = tokens > pass->wanted ? tokens : pass->wanted;
    const i64 hidden = padded(m.hidden), mixed = padded(m.heads * m.size), inner = padded(m.inner);
    const i64 widest = hidden > mixed ? (hidden > inner ? hidden : inner) : (mixed > inner ? mixed : inner);
    at_least(room.x, tokens * hidden);
    at_least(room.n, rows * hidden);
    at_least(room.branch, tokens * hidden);
    at_least(room.qkv, tokens * padded((m.heads + 2 * m.kv) * m.size));
    at_least(room.mixed, tokens * mixed);
    at_least(room.inner, tokens * inner);
    at_least(room.up, tokens * padded(2 * m.inner));
    at_least(room.wide, rows * widest);
    at_least(room.halves, rows * widest);
    at_least(room.codes, rows * widest);
    at_least(room.scales, rows * widest / GROUP);
    at_least(room.sums, rows * widest / GROUP);
    room.input = {room.wide.data(), room.halves.data(), room.codes.data(), room.scales.data(), room.sums.data()};
    at_least(room.places, tokens);
    for (i64 span = 0; span < pass->spans; span++)
        for (i64 i = 0; i < pass->span[span * 3 + 1]; i++)
            room.places[pass->span[span * 3] + i] = {span, pass->span[span * 3 + 2] + i};
    Run run;
    run.model = model, run.pass = pass, run.room = &room;
    if (omp_parallel && pass->threads > 1)
        omp_parallel(enter, &run, (unsigned)pass->threads, 0);
    else if (pass->cache_kind == FP32)
        all_layers<float>(run, 0, 1);
    else
        all_layers<bf16>(run, 0, 1);
}

// weight: (out, in) fp32. codes: (out, in) in 0 ... 15, scales (out, in / GROUP) bf16.
void quantize_int4(const float *weight, u8 *codes, void *scales, i64 out, i64 in, int threads) {
    each(out, threads, [=](i64 row) {
        quantize_row_int4(weight + row * in, in, codes + row * in, (bf16 *)scales + row * (in / GROUP));
    });
}

// codes (out, in) in 0 ... 15 and scales (out, in / GROUP) into units of INT4_STEP bytes a group.
void pack_int4(const u8 *codes, const void *scales, u8 *to, i64 out, i64 in, int threads) {
    const i64 groups = in / GROUP, units = (out + UNIT - 1) / UNIT;
    each(units, threads, [=](i64 unit) {
        for (i64 g = 0; g < groups; g++) {
            u8 *here = to + (unit * groups + g) * INT4_STEP;
            for (i64 i = 0; i < UNIT; i++) {
                i64 row = unit * UNIT + i;
                const u8 *from = codes + row * in + g * GROUP;
                for (i64 k = 0; k < 4; k++)
                    for (i64 j = 0; j < 4; j++) {
                        u8 low = row < out ? from[k * 4 + j] : 8, high = row < out ? from[16 + k * 4 + j] : 8;
                        here[((i / LANES) * 4 + k) * 64 + (i % LANES) * 4 + j] = (u8)(low | high << 4);
                    }
                bf16 scale = {0};
                if (row < out) scale = ((const bf16 *)scales)[row * groups + g];
                std::memcpy(here + INT4_BYTES + 2 * i, &scale, 2);
            }
        }
    });
}

// codes (out, in) signed into units of 32 UNIT bytes a group, 128 added.
void pack_int8(const int8_t *codes, u8 *to, i64 out, i64 in, i64 padded_in, int threads) {
    const i64 groups = padded_in / GROUP, units = (out + UNIT - 1) / UNIT;
    each(units, threads, [=](i64 unit) {
        for (i64 g = 0; g < groups; g++)
            for (i64 i = 0; i < UNIT; i++)
                for (i64 k = 0; k < GROUP; k++) {
                    i64 row = unit * UNIT + i, column = g * GROUP + k;
                    u8 code = row < out && column < in ? (u8)(codes[row * in + column] + 128) : 128;
                    to[(unit * groups + g) * GROUP * UNIT + ((i / LANES) * 8 + k / 4) * 64 + (i % LANES) * 4 + k % 4] =
                        code;
                }
    });
}

// Rows of 2 (bf16) or 4 (fp32) bytes a number into units: columns in pairs (bf16) or one by one, UNIT rows each.
void pack_floats(const void *weight, void *to, i64 out, i64 in, i64 padded_in, int half, int threads) {
    const i64 units = (out + UNIT - 1) / UNIT;
    each(units, threads, [=](i64 unit) {
        if (half && in == padded_in && (unit + 1) * UNIT <= out) {  // the usual case, a pair at a time
            const uint32_t *from = (const uint32_t *)weight + unit * UNIT * (in / 2);
            uint32_t *there = (uint32_t *)to + unit * (in / 2) * UNIT;
            for (i64 k = 0; k < in / 2; k++)
                for (i64 i = 0; i < UNIT; i++) there[k * UNIT + i] = from[i * (in / 2) + k];
            return;
        }
        for (i64 i = 0; i < UNIT; i++) {
            i64 row = unit * UNIT + i;
            for (i64 k = 0; k < padded_in; k++) {
                bool there = row < out && k < in;
                if (half) {
                    bf16 none = {0};
                    ((bf16 *)to)[unit * padded_in * UNIT + (k / 2) * 2 * UNIT + i * 2 + k % 2] =
                        there ? ((const bf16 *)weight)[row * in + k] : none;
                } else {
                    ((float *)to)[unit * padded_in * UNIT + k * UNIT + i] =
                        there ? ((const float *)weight)[row * in + k] : 0.0f;
                }
            }
        }
    });
}
}
