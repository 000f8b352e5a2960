// Causal attention of many tokens in bf16, forward and backward, by the matrix unit of a CPU that has AMX: attention.c
// says what it computes, and model/attention_in_c.py calls it.
//
// The operands of products are bf16, as those of torch's products are. Scores, their softmax and all sums are in fp32,
// in an order that the number of threads does not change.

#include "attention.h"

#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>

enum { Q = 64, SIDE = 16, DEEP = 32 };  // queries of a block; a tile's rows; its columns in bf16

// Whether the system lets this process use the unit.
void ready(int *yes) { *yes = syscall(SYS_arch_prctl, 0x1023 /* ARCH_REQ_XCOMP_PERM */, 18 /* tile data */) == 0; }

// GCC's loads of tiles do not say that they read memory: whatever was stored before must be there.
#define STORED(at) __asm__ volatile("" : : "r"(at) : "memory")

static void configure(void) {
    struct {
        uint8_t palette, start, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } all_of = {.palette = 1};
    for (int i = 0; i < 8; i++) all_of.bytes[i] = 64, all_of.rows[i] = SIDE;
    STORED(&all_of);
    _tile_loadconfig(&all_of);
}

static inline __m256i halves(V x) { return (__m256i)_mm512_cvtneps_pbh((__m512)x); }
// 16 columns of two rows, the first in the lower halves.
static inline __m512i paired(__m256i low, __m256i high) {
    return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
}

// c (m x n) = a b, or c + a b. a (m, k). b (k / 2, n): two rows in one, pair by pair. m and n are multiples of SIDE, k
// of DEEP. Rows of a, b and c have to_a, to_b and to_c entries.
static void product(
    const bf16 *a, int64_t to_a, const int32_t *b, int64_t to_b, float *c, int64_t to_c, int64_t m, int64_t n,
    int64_t k, int add
) {
    STORED(a);
    for (int64_t j = 0; j < n; j += 2 * SIDE) {
        int wide = n - j > SIDE;
        for (int64_t i = 0; i < m; i += 2 * SIDE) {
            int high = m - i > SIDE;
            float *to = c + i * to_c + j, *below = to + SIDE * to_c;
            if (add) {
                _tile_loadd(0, to, 4 * to_c);
                if (wide) _tile_loadd(1, to + SIDE, 4 * to_c);
                if (high) _tile_loadd(2, below, 4 * to_c);
                if (wide && high) _tile_loadd(3, below + SIDE, 4 * to_c);
            } else {
                _tile_zero(0);
                _tile_zero(1);
                _tile_zero(2);
                _tile_zero(3);
            }
            for (int64_t l = 0; l < k; l += DEEP) {
                _tile_loadd(4, a + i * to_a + l, 2 * to_a);
                _tile_loadd(6, b + l / 2 * to_b + j, 4 * to_b);
                _tile_dpbf16ps(0, 4, 6);
                if (wide) {
                    _tile_loadd(7, b + l / 2 * to_b + j + SIDE, 4 * to_b);
                    _tile_dpbf16ps(1, 4, 7);
                }
                if (high) {
                    _tile_loadd(5, a + (i + SIDE) * to_a + l, 2 * to_a);
                    _tile_dpbf16ps(2, 5, 6);
                    if (wide) _tile_dpbf16ps(3, 5, 7);
                }
            }
            _tile_stored(0, to, 4 * to_c);
            if (wide) _tile_stored(1, to + SIDE, 4 * to_c);
            if (high) _tile_stored(2, below, 4 * to_c);
            if (wide && high) _tile_stored(3, below + SIDE, 4 * to_c);
        }
    }
}

// n rows of x (d, `stride` apart) as they are, with zeros up to row m and column `to`.
static void plain(const bf16 *x, int64_t stride, int64_t d, int64_t n, int64_t m, bf16 *out, int64_t to) {
    for (int64_t l = 0; l < n; l++) {
        memcpy(out + l * to, x + l * stride, d * sizeof(bf16));
        memset(out + l * to + d, 0, (to - d) * sizeof(bf16));
    }
    memset(out + n * to, 0, (m - n) * to * sizeof(bf16));
}

// 16 rows of 16 entries become columns. A step swaps the squares above the diagonal with those below it. The next step
// does so within squares half as wide.
static inline void transpose(I *t) {
    const I lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
#pragma GCC unroll 4
    for (int side = W / 2; side; side /= 2) {
        I right = (lanes & side) != 0, above = lanes + (right & (W - side)), below = above + side;
#pragma GCC unroll 16
        for (int i = 0; i < W; i++)
            if (!(i & side)) {
                I one = t[i], two = t[i + side];
                t[i] = __builtin_shuffle(one, two, above), t[i + side] = __builtin_shuffle(one, two, below);
            }
    }
}

// 2 W columns of a row, or W and zeros.
static inline I columns(const bf16 *x, int whole) {
    I found = {0};
    memcpy(&found, x, whole ? sizeof found : sizeof found / 2);
    return found;
}

// n rows as the second operand of a product over their columns: transposed, pairs of columns in one row.
static void across(const bf16 *x, int64_t stride, int64_t d, int64_t n, int32_t *out, int64_t capacity) {
    for (int64_t l = 0; l < n; l += W)
        for (int64_t j = 0; j < d; j += 2 * W) {
            I t[W];
            int whole = d - j > W, pairs = whole ? W : W / 2;
            int64_t lanes = n - l < W ? n - l : W;
            for (int i = 0; i < W; i++) t[i] = i < lanes ? columns(x + (l + i) * stride + j, whole) : (I){0};
            transpose(t);
            for (int i = 0; i < pairs; i++)
                if (lanes == W)
                    *(I *)(out + (j / 2 + i) * capacity + l) = t[i];
                else
                    memcpy(out + (j / 2 + i) * capacity + l, t + i, lanes * 4);
        }
}

// n rows as the second operand of a product over rows: rows `at` and after. An even one is the first of a pair.
static void along(const bf16 *x, int64_t stride, int64_t d, int64_t n, bf16 *out, int64_t at) {
    for (int64_t l = 0; l < n; l++, at++) {
        bf16 *to = out + at / 2 * d * 2;
        if (at % 2 == 0 && l + 1 < n) {
            for (int64_t j = 0; j < d; j += W) {
                const bf16 *from = x + l * stride + j;
                __m256i one = _mm256_loadu_si256((__m256i *)from), two = _mm256_loadu_si256((__m256i *)(from + stride));
                _mm512_storeu_si512(to + 2 * j, paired(one, two));
            }
            l++, at++;
        } else {
            for (int64_t j = 0; j < d; j++) to[2 * j + at % 2] = x[l * stride + j];
        }
    }
}

// n rows, a multiple of W, as the first operand of a product over rows: transposed, Q apart. The rows have zeros up to
// the next multiple of 2 W.
static void turned(const bf16 *x, int64_t stride, int64_t d, int64_t n, bf16 *out) {
    for (int64_t l = 0; l < n; l += W)
        for (int64_t j = 0; j < d; j += 2 * W) {
            I t[W];
            for (int i = 0; i < W; i++) t[i] = *(I *)(x + (l + i) * stride + j);
            transpose(t);
            for (int i = 0; i < W && j + 2 * i < d; i++) {
                bf16 *to = out + (j + 2 * i) * Q + l;
                _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16((__m512i)t[i]));
                _mm256_storeu_si256((__m256i *)(to + Q), _mm512_cvtepi32_epi16((__m512i)(t[i] >> 16)));
            }
        }
}

static inline void put(const float *x, int64_t d, float scale, bf16 *out) {
    for (int64_t j = 0; j < d; j += W) store_bf16(out + j, *(V *)(x + j) * scale);
}

// The first n columns of sums (d, capacity) as rows.
static void put_turned(const float *x, int64_t capacity, int64_t d, int64_t n, float scale, bf16 *out, int64_t stride) {
    for (int64_t l = 0; l < n; l += W)
        for (int64_t j = 0; j < d; j += W) {
            I t[W];
            for (int i = 0; i < W; i++) t[i] = (I)(*(V *)(x + (j + i) * capacity + l) * scale);
            transpose(t);
            for (int64_t i = 0; i < W && l + i < n; i++) store_bf16(out + (l + i) * stride + j, (V)t[i]);
        }
}

void attention_amx(
    const bf16 *q, const bf16 *k, const bf16 *v, bf16 *out, float *log_sums, int64_t H, int64_t K, int64_t d,
    const Row *rows, const int64_t *units, int64_t count, int64_t capacity, float *rooms, int64_t room, int threads
) {
    float scale = 1 / sqrtf(d);
    int64_t wide = up(d, DEEP);
    _Pragma("omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)")
    for (int64_t at = 0; at < count * K; at++) {
        int64_t u = at / K, h = at % K;
        int32_t *keys = (int32_t *)(rooms + room * omp_get_thread_num());
        bf16 *values = (bf16 *)(keys + wide / 2 * capacity), *queries = values + capacity * d;
        bf16 *weights = queries + Q * wide;
        float *mixed = (float *)(weights + Q * capacity), *s = mixed + Q * d, sums[Q], top;
        configure();
        memset(keys, 0, wide / 2 * capacity * 4);
        memset(values, 0, capacity * d * 2);
        for (const Row *row = rows + units[u]; row < rows + units[u + 1]; row++) {
            int64_t before = row == rows + units[u] ? 0 : rows[units[u]].length;
            across(k + (row->first * K + h) * d, K * d, d, row->length, keys + before, capacity);
            along(v + (row->first * K + h) * d, K * d, d, row->length, values, before);
            for (int64_t at = h * (H / K) * row->length; at < (h + 1) * (H / K) * row->length;) {
                int64_t g = at / row->length, i = at % row->length, left = row->length - i;
                int64_t n = left < Q ? left : Q, m = up(n, SIDE), end = up(before + i + n, DEEP);
                int64_t place = (row->first + i) * H + g;
                plain(q + place * d, H * d, d, n, m, queries, wide);
                product(queries, wide, keys, capacity, s, end, m, end, wide, 0);
                for (int64_t j = 0; j < n; j++) {
                    float *scores = s + j * end;
                    int64_t seen = before + i + j + 1, own = up(seen, W);
                    for (int64_t l = 0; l < own; l += W) *(V *)(scores + l) *= scale;
                    sums[j] = exponentials(scores, seen, &top);
                    log_sums[place + j * H] = top + logf(sums[j]);
                    for (int64_t l = 0; l < own; l += W)
                        _mm256_storeu_si256((__m256i *)(weights + j * end + l), halves(*(V *)(scores + l)));
                    memset(weights + j * end + own, 0, (end - own) * sizeof(bf16));
                }
                memset(weights + n * end, 0, (m - n) * end * sizeof(bf16));
                product(weights, end, (int32_t *)values, d, mixed, d, m, d, end, 0);
                for (int64_t j = 0; j < n; j++) put(mixed + j * d, d, 1 / sums[j], out + (place + j * H) * d);
                at += n;
            }
        }
        _tile_release();
    }
}

// Of two rows of scores (n) and of the gradients of their weights: the weights and the gradients of the scores as
// pairs, and the latter as rows too. `seen` scores count in the first row and one more in the second. Of the two, only
// the first `real` ones are no padding.
static inline void softmax_back(
    const float *scores, const float *to_weights, int64_t n, int64_t seen, int64_t real, float scale,
    const float *log_sums, const float *sums, int32_t *weights, int32_t *to_scores, bf16 *by_row
) {
    const I lanes = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    int64_t ends[2] = {real > 0 ? seen : 0, real > 1 ? seen + 1 : 0}, l = 0;
    for (; l < ends[0] || l < ends[1]; l += W) {
        __m256i w[2], t[2];
        for (int e = 0; e < 2; e++) {
            V x = *(V *)(scores + e * n + l) * scale - log_sums[e];
            V p = pick(lanes + (int32_t)l < (int32_t)ends[e], exponential(x), (V){0});
            w[e] = halves(p), t[e] = halves(p * (*(V *)(to_weights + e * n + l) - sums[e]));
            _mm256_storeu_si256((__m256i *)(by_row + e * n + l), t[e]);
        }
        _mm512_storeu_si512(weights + l, paired(w[0], w[1]));
        _mm512_storeu_si512(to_scores + l, paired(t[0], t[1]));
    }
    if (l == n) return;
    memset(weights + l, 0, (n - l) * sizeof(int32_t));
    memset(to_scores + l, 0, (n - l) * sizeof(int32_t));
    for (int e = 0; e < 2; e++) memset(by_row + e * n + l, 0, (n - l) * sizeof(bf16));
}

void attention_amx_back(
    const bf16 *g_out, const bf16 *q, const bf16 *k, const bf16 *v, const bf16 *out, const float *log_sums, bf16 *to_q,
    bf16 *to_k, bf16 *to_v, int64_t H, int64_t K, int64_t d, const Row *rows, const int64_t *units, int64_t count,
    int64_t capacity, float *rooms, int64_t room, int threads
) {
    float scale = 1 / sqrtf(d);
    int64_t wide = up(d, DEEP);
    _Pragma("omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)")
    for (int64_t at = 0; at < count * K; at++) {
        int64_t u = at / K, h = at % K;
        const Row *head = rows + units[u], *last = rows + units[u + 1] - 1;
        float *sum_k = rooms + room * omp_get_thread_num(), *sum_v = sum_k + d * capacity, *s = sum_v + d * capacity;
        float *t = s + Q * capacity, *mixed = t + Q * capacity;
        int32_t *keys = (int32_t *)(mixed + Q * d), *values = keys + wide / 2 * capacity;
        int32_t *p = values + wide / 2 * capacity, *to_scores = p + Q / 2 * capacity;
        bf16 *key_rows = (bf16 *)(to_scores + Q / 2 * capacity), *by_row = key_rows + capacity * d;
        bf16 *queries = by_row + Q * capacity, *given = queries + Q * wide;
        bf16 *queries_turned = given + Q * wide, *given_turned = queries_turned + Q * d;
        configure();
        memset(keys, 0, wide / 2 * capacity * 4);
        memset(values, 0, wide / 2 * capacity * 4);
        memset(key_rows, 0, capacity * d * 2);
        for (const Row *row = head; row <= last; row++) {
            int64_t before = row == head ? 0 : head->length, own = (row->first * K + h) * d;
            across(k + own, K * d, d, row->length, keys + before, capacity);
            across(v + own, K * d, d, row->length, values + before, capacity);
            along(k + own, K * d, d, row->length, key_rows, before);
            int64_t fresh = up(before + row->length, DEEP) - before;
            for (int64_t j = 0; j < d; j++) {
                memset(sum_k + j * capacity + before, 0, fresh * sizeof(float));
                memset(sum_v + j * capacity + before, 0, fresh * sizeof(float));
            }
            for (int64_t at = h * (H / K) * row->length; at < (h + 1) * (H / K) * row->length;) {
                int64_t g = at / row->length, i = at % row->length, left = row->length - i;
                int64_t n = left < Q ? left : Q, m = up(n, DEEP), end = up(before + i + n, DEEP);
                int64_t place = (row->first + i) * H + g;
                plain(q + place * d, H * d, d, n, m, queries, wide);
                plain(g_out + place * d, H * d, d, n, m, given, wide);
                for (int64_t j = 0; j < n; j++) // read between products, from where nothing else fetches them
                    for (int64_t c = 0; c < d; c += DEEP) __builtin_prefetch(out + (place + j * H) * d + c);
                turned(queries, wide, d, m, queries_turned);
                turned(given, wide, d, m, given_turned);
                product(queries, wide, keys, capacity, s, end, m, end, wide, 0);
                product(given, wide, values, capacity, t, end, m, end, wide, 0);
                for (int64_t j = 0; j < m; j += 2) {
                    float sums[2] = {0}, tops[2] = {INFINITY, INFINITY};
                    for (int e = 0; e < 2 && j + e < n; e++) {
                        const bf16 *answer = out + (place + (j + e) * H) * d;
                        V sum = {0};
                        for (int64_t c = 0; c < d; c += W)
                            sum = fused(load_bf16(given + (j + e) * wide + c), load_bf16(answer + c), sum);
                        sums[e] = total(sum), tops[e] = log_sums[place + (j + e) * H];
                    }
                    softmax_back(
                        s + j * end, t + j * end, end, before + i + j + 1, n - j, scale, tops, sums,
                        p + j / 2 * end, to_scores + j / 2 * end, by_row + j * end
                    );
                }
                product(given_turned, Q, p, end, sum_v, capacity, d, end, m, 1);
                product(queries_turned, Q, to_scores, end, sum_k, capacity, d, end, m, 1);
                product(by_row, end, (int32_t *)key_rows, d, mixed, d, m, d, end, 0);
                for (int64_t j = 0; j < n; j++) put(mixed + j * d, d, scale, to_q + (place + j * H) * d);
                at += n;
            }
            if (row == head && head < last) continue; /* the rows after it add to its sums */
            put_turned(sum_k + before, capacity, d, row->length, scale, to_k + own, K * d);
            put_turned(sum_v + before, capacity, d, row->length, 1, to_v + own, K * d);
        }
        if (head < last) {
            put_turned(sum_k, capacity, d, head->length, scale, to_k + (head->first * K + h) * d, K * d);
            put_turned(sum_v, capacity, d, head->length, 1, to_v + (head->first * K + h) * d, K * d);
        }
        _tile_release();
    }
}
#else
void ready(int *yes) { *yes = 0; }
#endif
