// Causal attention of many tokens, forward and backward, on a CPU. model/attention_in_c.py calls it.
//
// A block of queries meets all its keys while the scores lie in a fast cache. The backward pass computes the weights
// again from the scores' log-sums, which costs less than to write and read them (arXiv 2205.14135).
//
// Sums are in fp32, in an order that the number of threads does not change.

#include "attention.h"

enum { Q = 32 };  // queries of a block

// c (R x N W) = a b, or c + a b. a has any strides, rows of b and c have `to_b` and `to_c` entries.
#define TILE(R, N)                                                                                                     \
    static inline void tile_##R##x##N(                                                                                 \
        const float *a, int64_t down, int64_t right, const float *b, int64_t to_b, float *c, int64_t to_c, int64_t k,  \
        int add                                                                                                        \
    ) {                                                                                                                \
        V sums[R][N];                                                                                                  \
        _Pragma("GCC unroll 8") for (int i = 0; i < R; i++)                                                            \
            _Pragma("GCC unroll 4") for (int j = 0; j < N; j++)                                                        \
                sums[i][j] = add ? *(V *)(c + i * to_c + j * W) : (V){0};                                              \
        for (int64_t l = 0; l < k; l++, b += to_b, a += right) {                                                       \
            V x[N];                                                                                                    \
            _Pragma("GCC unroll 4") for (int j = 0; j < N; j++) x[j] = *(V *)(b + j * W);                              \
            _Pragma("GCC unroll 8") for (int i = 0; i < R; i++) {                                                      \
                V y = all(a[i * down]);                                                                                \
                _Pragma("GCC unroll 4") for (int j = 0; j < N; j++) sums[i][j] = fused(y, x[j], sums[i][j]);           \
            }                                                                                                          \
        }                                                                                                              \
        _Pragma("GCC unroll 8") for (int i = 0; i < R; i++)                                                            \
            _Pragma("GCC unroll 4") for (int j = 0; j < N; j++) *(V *)(c + i * to_c + j * W) = sums[i][j];             \
    }

TILE(4, 1)
#ifdef __AVX512F__  // registers for 16 sums of 16 floats
TILE(4, 4)
TILE(8, 2)
TILE(8, 1)
#endif

// The same for m x n, m a multiple of 8 and n of W.
static inline void product(
    const float *a, int64_t down, int64_t right, const float *b, int64_t to_b, float *c, int64_t to_c, int64_t m,
    int64_t n, int64_t k, int add
) {
    int64_t j = 0;
#ifdef __AVX512F__
#define STRIP(R, N)                                                                                                    \
    for (int64_t i = 0; i < m; i += R)                                                                                 \
        tile_##R##x##N(a + i * down, down, right, b + j, to_b, c + i * to_c + j, to_c, k, add);                        \
    j += N * W;
    while (j + 4 * W <= n) { STRIP(4, 4) }
    if (j + 2 * W <= n) { STRIP(8, 2) }
    if (j < n) { STRIP(8, 1) }
#endif
    for (; j < n; j += W)
        for (int64_t i = 0; i < m; i += 4)
            tile_4x1(a + i * down, down, right, b + j, to_b, c + i * to_c + j, to_c, k, add);
}

// q, out (M, H, d), k, v (M, K, d), log_sums (M, H). Unit u is the rows units[u] to units[u + 1]: a row is `length`
// tokens from `first` on, which see each other causally, and those after a unit's first row see all of the first row
// too. Nothing is computed for tokens without a row. rooms (threads, room): d and `capacity`, the most keys that a
// query can see, are multiples of W.
#define ATTENTION(T)                                                                                                   \
    static inline void copy_##T(const T *x, int64_t stride, int64_t d, int64_t n, float scale, float *out) {           \
        for (int64_t l = 0; l < n; l++)                                                                                \
            for (int64_t j = 0; j < d; j += W) *(V *)(out + l * d + j) = load_##T(x + l * stride + j) * scale;         \
    }                                                                                                                  \
    static inline void transpose_##T(                                                                                  \
        const T *x, int64_t stride, int64_t d, int64_t n, float *out, int64_t capacity                                 \
    ) {                                                                                                                \
        for (int64_t l = 0; l < n; l++)                                                                                \
            for (int64_t j = 0; j < d; j++) out[j * capacity + l] = one_##T(x + l * stride + j);                       \
    }                                                                                                                  \
    static inline void put_##T(const float *x, int64_t d, int64_t n, float scale, T *out, int64_t stride) {            \
        for (int64_t l = 0; l < n; l++)                                                                                \
            for (int64_t j = 0; j < d; j += W) store_##T(out + l * stride + j, *(V *)(x + l * d + j) * scale);         \
    }                                                                                                                  \
    void attention_##T(                                                                                                \
        const T *q, const T *k, const T *v, T *out, float *log_sums, int64_t H, int64_t K, int64_t d,                  \
        const Row *rows, const int64_t *units, int64_t count, int64_t capacity, float *rooms, int64_t room,            \
        int threads                                                                                                    \
    ) {                                                                                                                \
        float scale = 1 / sqrtf(d);                                                                                    \
        _Pragma("omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)")                            \
        for (int64_t at = 0; at < count * K; at++) {                                                                   \
            int64_t u = at / K, h = at % K;                                                                            \
            float *keys = rooms + room * omp_get_thread_num(), *values = keys + d * capacity;                          \
            float *queries = values + d * capacity, *mixed = queries + Q * d, *s = mixed + Q * d, top, sum;            \
            for (const Row *row = rows + units[u]; row < rows + units[u + 1]; row++) {                                 \
                int64_t before = row == rows + units[u] ? 0 : rows[units[u]].length;                                   \
                transpose_##T(k + (row->first * K + h) * d, K * d, d, row->length, keys + before, capacity);           \
                copy_##T(v + (row->first * K + h) * d, K * d, d, row->length, 1, values + before * d);                 \
                for (int64_t at = h * (H / K) * row->length; at < (h + 1) * (H / K) * row->length;) {                  \
                    int64_t g = at / row->length, i = at % row->length, left = row->length - i;                        \
                    int64_t n = left < Q ? left : Q, m = up(n, 8), seen = before + i + n, end = up(seen, W);           \
                    int64_t place = (row->first + i) * H + g;                                                          \
                    copy_##T(q + place * d, H * d, d, n, scale, queries);                                              \
                    memset(queries + n * d, 0, (m - n) * d * sizeof(float));                                           \
                    product(queries, d, 1, keys, capacity, s, end, m, end, d, 0);                                      \
                    for (int64_t j = 0; j < n; j++) {                                                                  \
                        float *weights = s + j * end;                                                                  \
                        int64_t own = up(before + i + j + 1, W);                                                       \
                        sum = exponentials(weights, before + i + j + 1, &top);                                         \
                        log_sums[place + j * H] = top + logf(sum);                                                     \
                        for (int64_t l = 0; l < own; l += W) *(V *)(weights + l) /= sum;                               \
                        memset(weights + own, 0, (end - own) * sizeof(float));                                         \
                    }                                                                                                  \
                    memset(s + n * end, 0, (m - n) * end * sizeof(float));                                             \
                    product(s, end, 1, values, d, mixed, d, m, d, seen, 0);                                            \
                    put_##T(mixed, d, n, 1, out + place * d, H * d);                                                   \
                    at += n;                                                                                           \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    void attention_back_##T(                                                                                           \
        const T *g_out, const T *q, const T *k, const T *v, const T *out, const float *log_sums, T *to_q, T *to_k,     \
        T *to_v, int64_t H, int64_t K, int64_t d, const Row *rows, const int64_t *units, int64_t count,                \
        int64_t capacity, float *rooms, int64_t room, int threads                                                      \
    ) {                                                                                                                \
        float scale = 1 / sqrtf(d);                                                                                    \
        _Pragma("omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1)")                            \
        for (int64_t at = 0; at < count * K; at++) {                                                                   \
            int64_t u = at / K, h = at % K, size = d * capacity;                                                       \
            const Row *head = rows + units[u], *last = rows + units[u + 1] - 1;                                        \
            float *keys = rooms + room * omp_get_thread_num(), *across = keys + size, *values = across + size;         \
            float *sum_k = values + size, *sum_v = sum_k + size, *queries = sum_v + size, *given = queries + Q * d;    \
            float *mixed = given + Q * d, *s = mixed + Q * d, *t = s + Q * capacity;                                   \
            for (const Row *row = head; row <= last; row++) {                                                          \
                int64_t before = row == head ? 0 : head->length, own = (row->first * K + h) * d;                       \
                int64_t fresh = (up(before + row->length, W) - before) * d * sizeof(float);                            \
                copy_##T(k + own, K * d, d, row->length, 1, keys + before * d);                                        \
                transpose_##T(k + own, K * d, d, row->length, across + before, capacity);                              \
                transpose_##T(v + own, K * d, d, row->length, values + before, capacity);                              \
                memset(sum_k + before * d, 0, fresh);                                                                  \
                memset(sum_v + before * d, 0, fresh);                                                                  \
                for (int64_t at = h * (H / K) * row->length; at < (h + 1) * (H / K) * row->length;) {                  \
                    int64_t g = at / row->length, i = at % row->length, left = row->length - i;                        \
                    int64_t n = left < Q ? left : Q, m = up(n, 8), seen = before + i + n, end = up(seen, W);           \
                    int64_t place = (row->first + i) * H + g;                                                          \
                    copy_##T(q + place * d, H * d, d, n, scale, queries);                                              \
                    copy_##T(g_out + place * d, H * d, d, n, 1, given);                                                \
                    memset(queries + n * d, 0, (m - n) * d * sizeof(float));                                           \
                    memset(given + n * d, 0, (m - n) * d * sizeof(float));                                             \
                    product(queries, d, 1, across, capacity, s, end, m, end, d, 0);                                    \
                    product(given, d, 1, values, capacity, t, end, m, end, d, 0);                                      \
                    for (int64_t j = 0; j < n; j++) {                                                                  \
                        float *weights = s + j * end, *to_scores = t + j * end;                                        \
                        const T *answer = out + (place + j * H) * d;                                                   \
                        int64_t visible = before + i + j + 1, whole = up(visible, W);                                  \
                        V along = {0};                                                                                 \
                        for (int64_t c = 0; c < d; c += W) along += *(V *)(given + j * d + c) * load_##T(answer + c);  \
                        float sum = total(along);                                                                      \
                        for (int64_t l = visible; l < whole; l++) weights[l] = -INFINITY, to_scores[l] = 0;            \
                        for (int64_t l = 0; l < whole; l += W) {                                                       \
                            V x = *(V *)(weights + l);                                                                 \
                            V p = pick(x == -INFINITY, (V){0}, exponential(x - log_sums[place + j * H]));              \
                            *(V *)(weights + l) = p;                                                                   \
                            *(V *)(to_scores + l) = p * (*(V *)(to_scores + l) - sum);                                 \
                        }                                                                                              \
                        memset(weights + whole, 0, (end - whole) * sizeof(float));                                     \
                        memset(to_scores + whole, 0, (end - whole) * sizeof(float));                                   \
                    }                                                                                                  \
                    memset(t + n * end, 0, (m - n) * end * sizeof(float));                                             \
                    product(s, 1, end, given, d, sum_v, d, end, d, n, 1);                                              \
                    product(t, 1, end, queries, d, sum_k, d, end, d, n, 1);                                            \
                    product(t, end, 1, keys, d, mixed, d, m, d, seen, 0);                                              \
                    put_##T(mixed, d, n, scale, to_q + place * d, H * d);                                              \
                    at += n;                                                                                           \
                }                                                                                                      \
                if (row == head && head < last) continue; /* the rows after it add to its sums */                      \
                put_##T(sum_k + before * d, d, row->length, 1, to_k + own, K * d);                                     \
                put_##T(sum_v + before * d, d, row->length, 1, to_v + own, K * d);                                     \
            }                                                                                                          \
            if (head < last) {                                                                                         \
                put_##T(sum_k, d, head->length, 1, to_k + (head->first * K + h) * d, K * d);                           \
                put_##T(sum_v, d, head->length, 1, to_v + (head->first * K + h) * d, K * d);                           \
            }                                                                                                          \
        }                                                                                                              \
    }

ATTENTION(float)
ATTENTION(bf16)
