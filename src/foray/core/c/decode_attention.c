// Attention of one new position a row over segments of keys and values, on a CPU. rollout/decode_attention.py calls it.
//
// A query's scores stay in the fastest cache, and it reads every key and value once. With products of torch the scores
// of all rows are written and read four times.
//
// Sums are in fp32, in an order that the number of threads does not change. Positions lie side by side in keys, and the
// components of a head in values: then both loops run over neighbors.

#include "vectors.h"

typedef struct {
    void *keys, *values;          // (d, capacity) and (capacity, d) a block and head
    int64_t of_block, of_head;    // entries from a block to the next, from a head to the next
    int64_t capacity;             // positions that a block has room for
    const int64_t *block;         // of each row; null: the row's number
    const int64_t *length;        // positions that count, of each block; not read where `block` is null
} Segment;

// Has values come near that are wanted soon. The caches of all layers exceed those of the processor, and its own
// foresight ends with each page.
static inline void soon_float(const float *x) { __builtin_prefetch(x); }
static inline void soon_bf16(const bf16 *x) { __builtin_prefetch(x); }

// `ahead`: entries to the same place of the next head, which comes next.
#define ATTENTION(T)                                                                                                   \
    /* The scores of a query against n positions. May write those of W - 1 more. */                                    \
    static inline void scores_##T(                                                                                     \
        const T *keys, int64_t capacity, const float *q, int64_t d, int64_t n, float *out, int64_t ahead               \
    ) {                                                                                                                \
        int64_t l = 0;                                                                                                 \
        for (; l + 3 * W < n && l + 4 * W <= capacity; l += 4 * W) {                                                   \
            V s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};                                                                  \
            const T *row = keys + l;                                                                                   \
            for (int64_t j = 0; j < d; j++, row += capacity) {                                                         \
                for (int i = 0; i < 4; i++) soon_##T(row + i * W + ahead);                                             \
                s0 = fused(all(q[j]), load_##T(row), s0), s1 = fused(all(q[j]), load_##T(row + W), s1);                \
                s2 = fused(all(q[j]), load_##T(row + 2 * W), s2), s3 = fused(all(q[j]), load_##T(row + 3 * W), s3);    \
            }                                                                                                          \
            *(V *)(out + l) = s0, *(V *)(out + l + W) = s1;                                                            \
            *(V *)(out + l + 2 * W) = s2, *(V *)(out + l + 3 * W) = s3;                                                \
        }                                                                                                              \
        for (; l < n && capacity >= W; l += W) {                                                                       \
            V s0 = {0}, s1 = {0}, s2 = {0}, s3 = {0};                                                                  \
            int64_t at = l + W <= capacity ? l : capacity - W; /* the last ones overlap: no read beyond the room */    \
            const T *row = keys + at;                                                                                  \
            int64_t j = 0;                                                                                             \
            for (; j + 3 < d; j += 4, row += 4 * capacity) {                                                           \
                for (int i = 0; i < 4; i++) soon_##T(row + i * capacity + ahead);                                      \
                s0 = fused(all(q[j]), load_##T(row), s0), s1 = fused(all(q[j + 1]), load_##T(row + capacity), s1);     \
                s2 = fused(all(q[j + 2]), load_##T(row + 2 * capacity), s2);                                           \
                s3 = fused(all(q[j + 3]), load_##T(row + 3 * capacity), s3);                                           \
            }                                                                                                          \
            for (; j < d; j++, row += capacity) s0 = fused(all(q[j]), load_##T(row), s0);                              \
            *(V *)(out + at) = (s0 + s1) + (s2 + s3);                                                                  \
        }                                                                                                              \
        for (; l < n; l++) {                                                                                           \
            out[l] = 0;                                                                                                \
            for (int64_t j = 0; j < d; j++) out[l] += q[j] * one_##T(keys + j * capacity + l);                         \
        }                                                                                                              \
    }                                                                                                                  \
    /* Adds the sum of n values under weights. */                                                                      \
    static inline void mix_##T(                                                                                        \
        const T *values, const float *w, int64_t n, int64_t d, float *out, int64_t ahead                               \
    ) {                                                                                                                \
        int64_t j = 0;                                                                                                 \
        for (; j + 2 * W <= d; j += 2 * W) {                                                                           \
            V a0 = *(V *)(out + j), a1 = *(V *)(out + j + W);                                                          \
            V b0 = {0}, b1 = {0}, c0 = {0}, c1 = {0}, d0 = {0}, d1 = {0};                                              \
            const T *row = values + j;                                                                                 \
            int64_t l = 0;                                                                                             \
            for (; l + 3 < n; l += 4, row += 4 * d) {                                                                  \
                for (int i = 0; i < 4; i++) soon_##T(row + i * d + ahead), soon_##T(row + i * d + W + ahead);          \
                a0 = fused(all(w[l]), load_##T(row), a0), a1 = fused(all(w[l]), load_##T(row + W), a1);                \
                const T *b = row + d, *c = b + d, *e = c + d;                                                          \
                b0 = fused(all(w[l + 1]), load_##T(b), b0), b1 = fused(all(w[l + 1]), load_##T(b + W), b1);            \
                c0 = fused(all(w[l + 2]), load_##T(c), c0), c1 = fused(all(w[l + 2]), load_##T(c + W), c1);            \
                d0 = fused(all(w[l + 3]), load_##T(e), d0), d1 = fused(all(w[l + 3]), load_##T(e + W), d1);            \
            }                                                                                                          \
            for (; l < n; l++, row += d)                                                                               \
                a0 = fused(all(w[l]), load_##T(row), a0), a1 = fused(all(w[l]), load_##T(row + W), a1);                \
            *(V *)(out + j) = (a0 + b0) + (c0 + d0), *(V *)(out + j + W) = (a1 + b1) + (c1 + d1);                      \
        }                                                                                                              \
        for (; j + W <= d; j += W) {                                                                                   \
            V a0 = *(V *)(out + j), a1 = {0}, a2 = {0}, a3 = {0};                                                      \
            const T *row = values + j;                                                                                 \
            int64_t l = 0;                                                                                             \
            for (; l + 3 < n; l += 4, row += 4 * d) {                                                                  \
                for (int i = 0; i < 4; i++) soon_##T(row + i * d + ahead);                                             \
                a0 = fused(all(w[l]), load_##T(row), a0), a1 = fused(all(w[l + 1]), load_##T(row + d), a1);            \
                a2 = fused(all(w[l + 2]), load_##T(row + 2 * d), a2);                                                  \
                a3 = fused(all(w[l + 3]), load_##T(row + 3 * d), a3);                                                  \
            }                                                                                                          \
            for (; l < n; l++, row += d) a0 = fused(all(w[l]), load_##T(row), a0);                                     \
            *(V *)(out + j) = (a0 + a1) + (a2 + a3);                                                                   \
        }                                                                                                              \
        for (; j < d; j++)                                                                                             \
            for (int64_t l = 0; l < n; l++) out[j] += w[l] * one_##T(values + l * d + j);                              \
    }                                                                                                                  \
    /* q and out (R, K, G, d). The last segment is the rows' own: positions before `now` count, and new_keys and */    \
    /* new_values (R, K, d) become position `now`. `before` (K, R, G, prefix): scores against a prefix that all rows */\
    /* share, which become its weights; out lacks its part. `rooms` (threads, room): for scores of a query, and W. */  \
    void attend_##T(                                                                                                   \
        const T *q, T *out, const T *new_keys, const T *new_values, int64_t now, T *before, int64_t prefix,            \
        int64_t R, int64_t K, int64_t G, int64_t d, float scale, const Segment *segments, int64_t count,               \
        float *rooms, int64_t room, int threads                                                                        \
    ) {                                                                                                                \
        const Segment *own = segments + count - 1;                                                                     \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                              \
        for (int64_t at = 0; at < R * K; at++) {                                                                       \
            int64_t r = at / K, k = at % K;                                                                            \
            const T *new_key = new_keys + at * d, *new_value = new_values + at * d;                                    \
            float *scores = rooms + room * omp_get_thread_num(), mixed[d], query[d];                                   \
            for (int64_t g = 0; g < G; g++) {                                                                          \
                const T *asked = q + (at * G + g) * d;                                                                 \
                T *to = out + (at * G + g) * d, *common = before + ((k * R + r) * G + g) * prefix;                     \
                for (int64_t j = 0; j < d; j++) query[j] = one_##T(asked + j) * scale, mixed[j] = 0;                   \
                float *s = scores;                                                                                     \
                for (int64_t l = 0; l < prefix; l++) *s++ = one_##T(common + l);                                       \
                for (const Segment *x = segments; x <= own; x++) {                                                     \
                    int64_t b = x->block ? x->block[r] : r, n = x == own ? now : x->length[b];                         \
                    const T *keys = (T *)x->keys + b * x->of_block + k * x->of_head;                                   \
                    scores_##T(keys, x->capacity, query, d, n, s, x == own ? x->of_head : 0);                          \
                    s += n;                                                                                            \
                }                                                                                                      \
                scores_##T(new_key, 1, query, d, 1, s++, 0);                                                           \
                float top, sum = exponentials(scores, s - scores, &top);                                               \
                s = scores;                                                                                            \
                for (int64_t l = 0; l < prefix; l++) common[l] = as_##T(*s++ / sum);                                   \
                for (const Segment *x = segments; x <= own; x++) {                                                     \
                    int64_t b = x->block ? x->block[r] : r, n = x == own ? now : x->length[b];                         \
                    const T *values = (T *)x->values + b * x->of_block + k * x->of_head;                               \
                    mix_##T(values, s, n, d, mixed, x == own ? x->of_head : 0);                                        \
                    s += n;                                                                                            \
                }                                                                                                      \
                mix_##T(new_value, s, 1, d, mixed, 0);                                                                 \
                for (int64_t j = 0; j < d; j++) to[j] = as_##T(mixed[j] / sum);                                        \
            }                                                                                                          \
            /* Only now: a vector that holds what was just written would have to wait. */                              \
            int64_t place = r * own->of_block + k * own->of_head;                                                      \
            for (int64_t j = 0; j < d; j++) ((T *)own->keys)[place + j * own->capacity + now] = new_key[j];            \
            memcpy((T *)own->values + place + now * d, new_value, d * sizeof(T));                                      \
        }                                                                                                              \
    }

ATTENTION(float)
ATTENTION(bf16)
