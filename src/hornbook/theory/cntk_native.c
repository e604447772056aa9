/* CNN-GP and CNTK of one image against LANES others, all depths and pooling sizes in one pass.
 *
 * The four-index tensors of the recursion fall into planes of fixed displacement (di, dj) between the two
 * pixels, and no step of it mixes planes: the window sum moves both pixels alike, the rest is pointwise. So a
 * plane runs through all layers inside the cache, and the innermost index is the image of the second set:
 * every instruction works on LANES pairs. Compiled by hornbook.theory.cntk_native; see there for the layout. */

#include <math.h>
#include <stddef.h>
#include <string.h>

#define LANES 16
#define HALF_PI 1.57079632679489662f
/* Correlations this close to 1 count as 1: equal patches come out at 1 - 2e-7 in float32, and as acos has an
 * infinite slope at 1 that alone would cost 1e-4 in the CNTK of near-equal images. */
#define ROUNDING 4e-7f

/* asin(r) for |r| <= 1 to about 2 units in the last place: the polynomial of Cephes' asinf with the usual
 * reduction asin r = pi/2 - 2 asin sqrt((1 - r) / 2) above one half. */
static inline float arcsine(float r) {
    float size = fabsf(r);
    int big = size > 0.5f;
    float z = big ? 0.5f * (1.0f - size) : r * r;
    float t = big ? sqrtf(z) : size;
    float p = 4.2163199048e-2f;
    p = p * z + 2.4181311049e-2f;
    p = p * z + 4.5470025998e-2f;
    p = p * z + 7.4953002686e-2f;
    p = p * z + 1.6666752422e-1f;
    p = p * z * t + t;
    p = big ? HALF_PI - 2.0f * p : p;
    return r < 0.0f ? -p : p;
}

/* One displacement plane. Local row a is image row top + a of x and top + a + di of z; columns alike. */
static void plane(int channels, int height, int width, const float *restrict x, const float *restrict z,
                  const float *restrict root_x, const float *restrict inverse_x,
                  const float *restrict root_z, const float *restrict inverse_z, int layers,
                  const int *restrict slot, int pools, const float *restrict weight_rows,
                  const float *restrict weight_columns, const int *restrict reach, float bias, int di, int dj,
                  double *restrict out, float *restrict scratch) {
    const int rows = height - (di < 0 ? -di : di), columns = width - (dj < 0 ? -dj : dj);
    const int top = di < 0 ? -di : 0, left = dj < 0 ? -dj : 0;
    const size_t area = (size_t)height * width, line = (size_t)columns * LANES;
    const float scale = 1.0f / (9.0f * 3.14159265358979324f);
    float *S = scratch, *T = S + rows * line;
    float *edge_k = T + rows * line, *edge_n = edge_k + line + 2 * LANES; /* one row, a zero pixel each side */
    float *ring_k = edge_n + line + 2 * LANES, *ring_n = ring_k + 3 * line;
    memset(edge_k, 0, (line + 2 * LANES) * sizeof(float));
    memset(edge_n, 0, (line + 2 * LANES) * sizeof(float));
    for (int layer = 0; layer <= layers; layer++) {
        const int last = layer == layers, pooled = layer > 0 && slot[layer - 1] >= 0;
        double *sums = pooled ? out + (size_t)slot[layer - 1] * 2 * pools * LANES : NULL;
        for (int a = 0; a <= rows; a++) {
            float *sum_k = ring_k + (a % 3) * line, *sum_n = ring_n + (a % 3) * line;
            if (a == rows) {
                memset(sum_k, 0, line * sizeof(float));
                memset(sum_n, 0, line * sizeof(float));
            } else {
                const int i = top + a, k = i + di;
                float *row_k = edge_k + LANES, *row_n = edge_n + LANES;
                if (layer == 0) {
                    memset(row_k, 0, line * sizeof(float));
                    for (int c = 0; c < channels; c++) {
                        const float *own = x + c * area + (size_t)i * width + left;
                        const float *other = z + (c * area + (size_t)k * width + left + dj) * LANES;
                        for (int b = 0; b < columns; b++)
                            for (int l = 0; l < LANES; l++)
                                row_k[b * LANES + l] += own[b] * other[b * LANES + l];
                    }
                    memcpy(row_n, row_k, line * sizeof(float));
                } else {
                    const size_t own = (layer - 1) * area + (size_t)i * width + left;
                    const size_t other = ((layer - 1) * area + (size_t)k * width + left + dj) * LANES;
                    const float *Sa = S + a * line, *Ta = T + a * line;
                    for (int b = 0; b < columns; b++) {
                        const float root = root_x[own + b], inverse = inverse_x[own + b];
                        const float *rz = root_z + other + b * LANES, *iz = inverse_z + other + b * LANES;
                        for (int l = 0; l < LANES; l++) {
                            const int at = b * LANES + l;
                            float r = Sa[at] * (inverse * iz[l]);
                            r = r > 1.0f - ROUNDING ? 1.0f : r;
                            r = r < -1.0f ? -1.0f : r;
                            const float angle = (HALF_PI + arcsine(r)) * scale;
                            const float value =
                                root * rz[l] * (sqrtf((1.0f - r) * (1.0f + r)) * scale + r * angle);
                            row_k[at] = value;
                            row_n[at] = angle * Ta[at] + value;
                        }
                    }
                    if (pooled)
                        for (int p = 0; p < pools; p++) {
                            const float down = weight_rows[((size_t)p * height + i) * height + k];
                            if (di > reach[p] || -di > reach[p] || dj > reach[p] || -dj > reach[p]) continue;
                            float sum_gp[LANES] = {0}, sum_ntk[LANES] = {0};
                            for (int b = 0; b < columns; b++) {
                                const int j = left + b;
                                const float w = weight_columns[((size_t)p * width + j) * width + j + dj];
                                for (int l = 0; l < LANES; l++) {
                                    sum_gp[l] += w * row_k[b * LANES + l];
                                    sum_ntk[l] += w * row_n[b * LANES + l];
                                }
                            }
                            for (int l = 0; l < LANES; l++) {
                                sums[(size_t)p * LANES + l] += (double)down * sum_gp[l];
                                sums[(size_t)(pools + p) * LANES + l] += (double)down * sum_ntk[l];
                            }
                        }
                    if (last) continue;
                }
                for (size_t at = 0; at < line; at++) {
                    sum_k[at] = edge_k[at] + edge_k[at + LANES] + edge_k[at + 2 * LANES];
                    sum_n[at] = edge_n[at] + edge_n[at + LANES] + edge_n[at + 2 * LANES];
                }
            }
            if (a > 0 && !last) {
                const float *here_k = ring_k + ((a - 1) % 3) * line, *here_n = ring_n + ((a - 1) % 3) * line;
                const float *up_k = ring_k + ((a + 1) % 3) * line, *up_n = ring_n + ((a + 1) % 3) * line;
                float *Sb = S + (a - 1) * line, *Tb = T + (a - 1) * line;
                if (a > 1)
                    for (size_t at = 0; at < line; at++) {
                        Sb[at] = up_k[at] + here_k[at] + sum_k[at] + bias;
                        Tb[at] = up_n[at] + here_n[at] + sum_n[at] + bias;
                    }
                else
                    for (size_t at = 0; at < line; at++) {
                        Sb[at] = here_k[at] + sum_k[at] + bias;
                        Tb[at] = here_n[at] + sum_n[at] + bias;
                    }
            }
        }
    }
}

int cntk_lanes(void) { return LANES; }

/* Floats of scratch that cntk_rows needs. */
size_t cntk_scratch(int height, int width) {
    return (size_t)LANES * (2 * (size_t)height * width + 2 * ((size_t)width + 2) + 6 * (size_t)width);
}

/* Images first_x to last_x of x against blocks first_block to last_block of z.
 * out: (last_x - first_x, blocks, slots, 2, pools, LANES), zeroed by the caller. With symmetric set, blocks that
 * lie wholly below the diagonal are left out. */
void cntk_rows(int channels, int height, int width, const float *x, const float *z, const float *root_x,
               const float *inverse_x, const float *root_z, const float *inverse_z, int layers, const int *slot,
               int slots, int pools, const float *weight_rows, const float *weight_columns, const int *reach,
               float bias, int first_x, int last_x, int first_block, int last_block, int symmetric, double *out,
               float *scratch) {
    const size_t image = (size_t)channels * height * width, maps = (size_t)layers * height * width;
    int far = 0;
    for (int p = 0; p < pools; p++) far = reach[p] > far ? reach[p] : far;
    const int far_rows = far < height - 1 ? far : height - 1, far_columns = far < width - 1 ? far : width - 1;
    for (int n = first_x; n < last_x; n++)
        for (int block = first_block; block < last_block; block++) {
            if (symmetric && (block + 1) * LANES <= n) continue;
            const size_t cell = (size_t)(n - first_x) * (last_block - first_block) + (block - first_block);
            double *here = out + cell * slots * 2 * pools * LANES;
            for (int di = -far_rows; di <= far_rows; di++)
                for (int dj = -far_columns; dj <= far_columns; dj++)
                    plane(channels, height, width, x + n * image, z + block * image * LANES, root_x + n * maps,
                          inverse_x + n * maps, root_z + block * maps * LANES, inverse_z + block * maps * LANES,
                          layers, slot, pools, weight_rows, weight_columns, reach, bias, di, dj, here, scratch);
        }
}
