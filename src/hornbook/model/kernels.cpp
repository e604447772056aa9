// Element-wise parts of a training step, each in one pass over memory. Built by hornbook/model/native.py for
// the very processor it runs on; hornbook/model/fused.py and block_attention.py hold the same formulas in
// torch, which are used where there is no compiler and which the tests compare against.
//
// T is float or bf16 (stored as its upper 16 bits). All arithmetic is fp32. Matrices are row-major and
// contiguous; every function works on whole rows, and a row's result does not depend on the other rows.

#include <cstdint>
#include <cstring>
#include <cmath>
#include <vector>

#include "numbers.h"

// ------------------------------------------------------------------ threads

// The entry points of the OpenMP library that torch has loaded, so that both use one pool; null: one thread.
typedef void (*parallel_t)(void (*)(void *), void *, unsigned, unsigned);
typedef int (*thread_t)();
static parallel_t omp_parallel = nullptr;
static thread_t omp_thread = nullptr, omp_team = nullptr;

template <class F> struct Job {
    const F *work;
    i64 rows;
    int threads;
};

template <class F> static void run(void *data) {
    const Job<F> *job = (const Job<F> *)data;
    i64 share = (job->rows + job->threads - 1) / job->threads;
    int team = omp_team();  // may be smaller than what was asked for
    for (int part = omp_thread(); part < job->threads; part += team) {
        i64 first = part * share, last = first + share < job->rows ? first + share : job->rows;
        if (first < last) (*job->work)(first, last, part);
    }
}

// Calls work(first, last, part) on equal shares of the rows, each part once.
template <class F> static void share_rows(i64 rows, int threads, const F &work) {
    if (threads < 2 || !omp_parallel || rows < threads) {
        work(0, rows, 0);
        return;
    }
    Job<F> job = {&work, rows, threads};
    omp_parallel(run<F>, &job, (unsigned)threads, 0);
}

// ------------------------------------------------------------------ SwiGLU

template <class T>
static void swiglu_forward(const T *gate_up, T *out, i64 rows, i64 half, int threads) {
    share_rows(rows, threads, [=](i64 first, i64 last, int) {
        for (i64 row = first; row < last; row++) {
            const T *gate = gate_up + row * 2 * half, *up = gate + half;
            T *o = out + row * half;
#pragma omp simd
            for (i64 i = 0; i < half; i++) {
                float g = load(gate[i]);
                store(o + i, g / (1.0f + exponential(-g)) * load(up[i]));
            }
        }
    });
}

template <class T>
static void swiglu_backward(const T *gate_up, const T *grad, T *out, i64 rows, i64 half, int threads) {
    share_rows(rows, threads, [=](i64 first, i64 last, int) {
        for (i64 row = first; row < last; row++) {
            const T *gate = gate_up + row * 2 * half, *up = gate + half, *d = grad + row * half;
            T *dgate = out + row * 2 * half, *dup = dgate + half;
#pragma omp simd
            for (i64 i = 0; i < half; i++) {
                float g = load(gate[i]), dy = load(d[i]);
                float s = 1.0f / (1.0f + exponential(-g));
                store(dup + i, dy * g * s);
                store(dgate + i, dy * load(up[i]) * s * (1.0f + g * (1.0f - s)));
            }
        }
    });
}

// ------------------------------------------------------------------ RMSNorm, after a residual addition

// stream = x + branch where there is a branch; out = stream / sqrt(mean(stream^2) + eps) * weight.
template <class X, class T>
static void rms_norm_forward(const X *x, const T *branch, const float *weight, X *stream, T *out, float *scale,
                             i64 rows, i64 width, float eps, int threads) {
    share_rows(rows, threads, [=](i64 first, i64 last, int) {
        for (i64 row = first; row < last; row++) {
            const X *from = x + row * width;
            float sum = 0;
            if (branch) {
                const T *b = branch + row * width;
                X *to = stream + row * width;
#pragma omp simd reduction(+ : sum)
                for (i64 i = 0; i < width; i++) {
                    float value = load(from[i]) + load(b[i]);
                    store(to + i, value);
                    sum += value * value;
                }
                from = to;
            } else {
#pragma omp simd reduction(+ : sum)
                for (i64 i = 0; i < width; i++) sum += load(from[i]) * load(from[i]);
            }
            float s = 1.0f / std::sqrt(sum / width + eps);
            scale[row] = s;
            T *o = out + row * width;
#pragma omp simd
            for (i64 i = 0; i < width; i++) store(o + i, load(from[i]) * s * weight[i]);
        }
    });
}

// dx = straight + s (w dy - normed mean(w dy normed)); dw += sum dy normed; dbranch is dx in the dtype of dy.
template <class X, class T>
static void rms_norm_backward(const X *x, const float *scale, const float *weight, const T *grad,
                              const X *straight, X *dx, T *dbranch, float *dw, i64 rows, i64 width, int threads) {
    std::vector<float> sums((size_t)(threads > 0 ? threads : 1) * width, 0.0f);
    float *all = sums.data();
    share_rows(rows, threads, [=](i64 first, i64 last, int thread) {
        float *mine = all + thread * width;
        for (i64 row = first; row < last; row++) {
            const X *from = x + row * width;
            const T *g = grad + row * width;
            float s = scale[row], along = 0;
#pragma omp simd reduction(+ : along)
            for (i64 i = 0; i < width; i++) {
                float product = load(g[i]) * load(from[i]) * s;
                mine[i] += product;
                along += product * weight[i];
            }
            along *= s / width;
            X *to = dx + row * width;
            if (straight) {
                const X *more = straight + row * width;
                T *b = dbranch + row * width;
#pragma omp simd
                for (i64 i = 0; i < width; i++) {
                    float value = (load(g[i]) * weight[i] - load(from[i]) * along) * s + load(more[i]);
                    store(to + i, value);
                    store(b + i, value);
                }
            } else {
#pragma omp simd
                for (i64 i = 0; i < width; i++)
                    store(to + i, (load(g[i]) * weight[i] - load(from[i]) * along) * s);
            }
        }
    });
    for (size_t i = 0; i < sums.size(); i++) dw[i % width] += all[i];
}

// ------------------------------------------------------------------ rotary embedding and heads

// From (batch, time, heads + 2 kv, size) to queries, keys and values of (batch, heads, time, size), queries
// rotated and scaled, keys rotated; or, when `back`, from the three gradients to that of the projection.
// Key heads are repeated for their query heads, and their gradients added up again.
template <class T>
static void rotary(T *qkv, T *q, T *k, T *v, const float *cos, const float *sin, i64 batch, i64 time, i64 heads,
                   i64 kv, i64 size, i64 half, i64 angle_rows, float scale, int back, int threads) {
    i64 group = heads / kv, slots = heads + 2 * kv;
    share_rows(batch * time, threads, [=](i64 first, i64 last, int) {
        std::vector<float> buffer(size);
        float *x = buffer.data();
        for (i64 row = first; row < last; row++) {
            i64 b = row / time, t = row % time;
            const float *c = cos + ((angle_rows > 1 ? b : 0) * time + t) * half;
            const float *s = sin + ((angle_rows > 1 ? b : 0) * time + t) * half;
            for (i64 slot = 0; slot < slots; slot++) {
                T *here = qkv + (row * slots + slot) * size;
                bool query = slot < heads, value = slot >= heads + kv;
                i64 copies = query ? 1 : group;
                i64 head = query ? slot : (value ? slot - heads - kv : slot - heads) * group;
                T *there = (query ? q : value ? v : k) + ((b * heads + head) * time + t) * size;
                float factor = query ? scale : 1.0f;
                if (back) {
#pragma omp simd
                    for (i64 i = 0; i < size; i++) x[i] = load(there[i]);
                    for (i64 copy = 1; copy < copies; copy++)
#pragma omp simd
                        for (i64 i = 0; i < size; i++) x[i] += load(there[copy * time * size + i]);
                } else {
#pragma omp simd
                    for (i64 i = 0; i < size; i++) x[i] = load(here[i]);
                }
                if (!value) {
                    float sign = back ? -1.0f : 1.0f;
#pragma omp simd
                    for (i64 i = 0; i < half; i++) {
                        float one = x[i], two = x[half + i], turn = s[i] * sign;
                        x[i] = one * c[i] - two * turn;
                        x[half + i] = two * c[i] + one * turn;
                    }
                }
                for (i64 copy = 0; copy < (back ? 1 : copies); copy++) {
                    T *to = back ? here : there + copy * time * size;
#pragma omp simd
                    for (i64 i = 0; i < size; i++) store(to + i, x[i] * factor);
                }
            }
        }
    });
}

// Between (batch, heads, time, size), of which queries `from` to `to` lie densely in `block`, and (batch,
// time, heads, size): copies the block into `rows`, or out of it when `back`.
template <class T>
static void heads_together(T *block, T *rows, i64 batch, i64 heads, i64 time, i64 size, i64 from, i64 to,
                           int back, int threads) {
    share_rows(batch * (to - from), threads, [=](i64 first, i64 last, int) {
        for (i64 row = first; row < last; row++) {
            i64 b = row / (to - from), t = row % (to - from);
            for (i64 head = 0; head < heads; head++) {
                T *dense = block + ((b * heads + head) * (to - from) + t) * size;
                T *wide = rows + ((b * time + from + t) * heads + head) * size;
                if (back)
                    std::memcpy(dense, wide, size * sizeof(T));
                else
                    std::memcpy(wide, dense, size * sizeof(T));
            }
        }
    });
}

// ------------------------------------------------------------------ softmax

static inline float largest(const float *x, i64 count) {
    float most = -INFINITY;
#pragma omp simd reduction(max : most)
    for (i64 i = 0; i < count; i++) most = x[i] > most ? x[i] : most;
    return most;
}

// In place: softmax(scores + bias) over the last dimension of (batch * heads, queries, keys). bias: (batch or
// 1, queries, keys - free), for the keys behind the first `free`.
template <class T>
static void softmax_forward(T *scores, const T *bias, i64 batch, i64 heads, i64 queries, i64 keys, i64 free,
                            i64 bias_rows, int threads) {
    share_rows(batch * heads * queries, threads, [=](i64 first, i64 last, int) {
        std::vector<float> buffer(keys);
        float *x = buffer.data();
        for (i64 row = first; row < last; row++) {
            i64 b = row / (heads * queries), query = row % queries;
            T *line = scores + row * keys;
            const T *mask = bias + ((bias_rows > 1 ? b : 0) * queries + query) * (keys - free);
#pragma omp simd
            for (i64 i = 0; i < free; i++) x[i] = load(line[i]);
#pragma omp simd
            for (i64 i = free; i < keys; i++) x[i] = load(line[i]) + load(mask[i - free]);
            float most = largest(x, keys), sum = 0;
#pragma omp simd reduction(+ : sum)
            for (i64 i = 0; i < keys; i++) {
                x[i] = exponential(x[i] - most);
                sum += x[i];
            }
            float factor = 1.0f / sum;
#pragma omp simd
            for (i64 i = 0; i < keys; i++) store(line + i, x[i] * factor);
        }
    });
}

// In place in dp: p (dp - sum(p dp)).
template <class T> static void softmax_backward(const T *p, T *dp, i64 rows, i64 keys, int threads) {
    share_rows(rows, threads, [=](i64 first, i64 last, int) {
        for (i64 row = first; row < last; row++) {
            const T *weight = p + row * keys;
            T *d = dp + row * keys;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (i64 i = 0; i < keys; i++) sum += load(weight[i]) * load(d[i]);
#pragma omp simd
            for (i64 i = 0; i < keys; i++) store(d + i, load(weight[i]) * (load(d[i]) - sum));
        }
    });
}

// In place: logits become scale * (softmax(scale logits) - onehot(target)); losses[row] = -log p(target).
template <class T>
static void cross_entropy(T *logits, const i64 *targets, float *losses, i64 rows, i64 vocabulary, float scale,
                          int threads) {
    share_rows(rows, threads, [=](i64 first, i64 last, int) {
        std::vector<float> buffer(vocabulary);
        float *x = buffer.data();
        for (i64 row = first; row < last; row++) {
            T *line = logits + row * vocabulary;
#pragma omp simd
            for (i64 i = 0; i < vocabulary; i++) x[i] = load(line[i]) * scale;
            float most = largest(x, vocabulary), wanted = x[targets[row]], sum = 0;
#pragma omp simd reduction(+ : sum)
            for (i64 i = 0; i < vocabulary; i++) {
                x[i] = exponential(x[i] - most);
                sum += x[i];
            }
            losses[row] = std::log(sum) - (wanted - most);
            float factor = scale / sum;
            x[targets[row]] -= sum;
#pragma omp simd
            for (i64 i = 0; i < vocabulary; i++) store(line + i, x[i] * factor);
        }
    });
}

// ------------------------------------------------------------------ names for Python: _f fp32, _h bf16, _m
// fp32 residual stream beside bf16

extern "C" {

void use_threads(void *parallel, void *thread, void *team) {
    omp_parallel = (parallel_t)parallel;
    omp_thread = (thread_t)thread;
    omp_team = (thread_t)team;
}

#define EACH_TYPE(X) X(float, f) X(bf16, h)
#define EACH_PAIR(X) X(float, float, f) X(bf16, bf16, h) X(float, bf16, m)

#define NAMES(T, n)                                                                                             \
    void swiglu_forward_##n(const T *gate_up, T *out, i64 rows, i64 half, int threads) {                        \
        swiglu_forward(gate_up, out, rows, half, threads);                                                      \
    }                                                                                                           \
    void swiglu_backward_##n(const T *gate_up, const T *grad, T *out, i64 rows, i64 half, int threads) {        \
        swiglu_backward(gate_up, grad, out, rows, half, threads);                                               \
    }                                                                                                           \
    void rotary_##n(T *qkv, T *q, T *k, T *v, const float *cos, const float *sin, i64 batch, i64 time,          \
                    i64 heads, i64 kv, i64 size, i64 half, i64 angle_rows, float scale, int back, int threads) { \
        rotary(qkv, q, k, v, cos, sin, batch, time, heads, kv, size, half, angle_rows, scale, back, threads);   \
    }                                                                                                           \
    void heads_together_##n(T *block, T *rows, i64 batch, i64 heads, i64 time, i64 size, i64 from, i64 to,      \
                            int back, int threads) {                                                            \
        heads_together(block, rows, batch, heads, time, size, from, to, back, threads);                         \
    }                                                                                                           \
    void softmax_forward_##n(T *scores, const T *bias, i64 batch, i64 heads, i64 queries, i64 keys, i64 free,   \
                             i64 bias_rows, int threads) {                                                      \
        softmax_forward(scores, bias, batch, heads, queries, keys, free, bias_rows, threads);                   \
    }                                                                                                           \
    void softmax_backward_##n(const T *p, T *dp, i64 rows, i64 keys, int threads) {                             \
        softmax_backward(p, dp, rows, keys, threads);                                                           \
    }                                                                                                           \
    void cross_entropy_##n(T *logits, const i64 *targets, float *losses, i64 rows, i64 vocabulary, float scale, \
                           int threads) {                                                                       \
        cross_entropy(logits, targets, losses, rows, vocabulary, scale, threads);                               \
    }

#define PAIR_NAMES(X, T, n)                                                                                     \
    void rms_norm_forward_##n(const X *x, const T *branch, const float *weight, X *stream, T *out,              \
                              float *scale, i64 rows, i64 width, float eps, int threads) {                      \
        rms_norm_forward(x, branch, weight, stream, out, scale, rows, width, eps, threads);                     \
    }                                                                                                           \
    void rms_norm_backward_##n(const X *x, const float *scale, const float *weight, const T *grad,              \
                               const X *straight, X *dx, T *dbranch, float *dw, i64 rows, i64 width,            \
                               int threads) {                                                                   \
        rms_norm_backward(x, scale, weight, grad, straight, dx, dbranch, dw, rows, width, threads);             \
    }

EACH_TYPE(NAMES)
EACH_PAIR(PAIR_NAMES)
}
