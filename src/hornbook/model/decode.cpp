// A whole pass of a dense decoder over the engine's pages: embeddings, layers, head. Built by
// hornbook/model/native.py for the very processor it runs on; hornbook/infer/packed.py does the same with torch,
// is used where there is no compiler, and is what the tests compare against.
//
// Letters: N tokens of a pass, d head size, K key-value heads. All sums are fp32 (integer codes: int32 within a
// group). Every number of a row is computed in the same order whatever else is in the pass: a request gives the
// same bits alone and in any batch, read at once or in pieces.

#include "decode_products.h"

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
