// Attention of one new position a row over segments of keys and values, on a CPU. rollout/decode_attention.py calls it.
//
// Rows of one prompt go together in bunches: a key that they share is read and converted once for all their queries.
// The scores of a bunch stay in the fastest caches, and it reads every key and value once. With products of torch the
// scores of all rows are written and read four times.
//
// Keys lie in tiles of W positions, (d, W) each, and values by position: both are read from one end to the other. Sums
// are in fp32, in an order that the number of threads does not change.

#include "vectors.h"

#ifdef __AVX512F__
enum { MOST = 8 };  // queries at once, whose sums registers hold: a power of 2, at most 8
#else
enum { MOST = 2 };
#endif

#define ALWAYS static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")

typedef struct {
    void *keys, *values;              // (tiles, d, W) and (positions, d) a block and head
    int64_t keys_block, keys_head;      // entries from a block of keys to the next, from a head to the next
    int64_t values_block, values_head;  // the same of values
} Blocks;

// Puts rows of one block side by side, in bunches of at most `most`. order (R): the rows. first (R + 1): the place in
// `order` where each bunch begins, and R. counts (blocks + 1) is room. Returns the number of bunches.
static int64_t bunches(
    const int64_t *block, int64_t R, int64_t blocks, int64_t most, int64_t *order, int64_t *first, int64_t *counts
) {
    int64_t found = 0;
    memset(counts, 0, (blocks + 1) * sizeof(int64_t));
    for (int64_t r = 0; r < R; r++) counts[block[r] + 1]++;
    for (int64_t b = 0; b < blocks; b++) {
        for (int64_t at = 0; at < counts[b + 1]; at += most) first[found++] = counts[b] + at;
        counts[b + 1] += counts[b];
    }
    first[found] = R;
    for (int64_t r = 0; r < R; r++) order[counts[block[r]]++] = r;
    return found;
}

// Has values come near that are wanted soon. The caches of all layers exceed those of the processor, and its own
// foresight ends with each page.
static inline void soon(const void *x) { __builtin_prefetch(x); }

#define ATTENTION(T)                                                                                                   \
    /* The scores of N queries (N, d) against n positions, `room` apart. May write those of W - 1 more. */             \
    /* `ahead`: entries to the same place of the block that comes next. */                                             \
    ALWAYS void scores_of_##T(                                                                                         \
        const T *keys, const float *q, int64_t d, int64_t n, float *out, int64_t room, int64_t ahead, const int N      \
    ) {                                                                                                                \
        const int parts = 8 / N; /* of a head, which are summed apart: sums that wait for no other */                  \
        for (int64_t l = 0; l < n; l += W, keys += d * W) {                                                            \
            V s[8] = {{0}};                                                                                            \
            for (int64_t j = 0; j < d; j += parts)                                                                     \
                UNROLL for (int p = 0; p < parts; p++) {                                                               \
                    V key = load_##T(keys + (j + p) * W);                                                              \
                    if ((p * sizeof(T) * W) % 64 == 0) soon(keys + (j + p) * W + ahead);                               \
                    UNROLL for (int i = 0; i < N; i++)                                                                 \
                        s[p * N + i] = fused(all(q[i * d + j + p]), key, s[p * N + i]);                                \
                }                                                                                                      \
            UNROLL for (int half = 4; half >= N; half /= 2)                                                            \
                UNROLL for (int i = 0; i < half; i++) s[i] += s[i + half];                                             \
            UNROLL for (int i = 0; i < N; i++) *(V *)(out + i * room + l) = s[i];                                      \
        }                                                                                                              \
    }                                                                                                                  \
    /* Adds to out (N, d) the sums of n values under the weights of N queries, `room` apart. `vectors` at once. */     \
    ALWAYS void mix_of_##T(                                                                                            \
        const T *values, const float *w, int64_t room, int64_t n, int64_t d, int64_t j, float *out, int64_t ahead,     \
        const int N, const int vectors                                                                                 \
    ) {                                                                                                                \
        const int sums = N * vectors, parts = sums < 8 ? 8 / sums : 1;                                                 \
        V s[16];                                                                                                       \
        UNROLL for (int i = 0; i < 16; i++) s[i] = (V){0};                                                             \
        const T *row = values + j;                                                                                     \
        int64_t l = 0;                                                                                                 \
        for (; l + parts <= n; l += parts, row += parts * d)                                                           \
            UNROLL for (int p = 0; p < parts; p++)                                                                     \
                UNROLL for (int v = 0; v < vectors; v++) {                                                             \
                    V value = load_##T(row + p * d + v * W);                                                           \
                    if ((v * sizeof(T) * W) % 64 == 0) soon(row + p * d + v * W + ahead);                              \
                    UNROLL for (int i = 0; i < N; i++)                                                                 \
                        s[p * sums + v * N + i] = fused(all(w[i * room + l + p]), value, s[p * sums + v * N + i]);     \
                }                                                                                                      \
        for (; l < n; l++, row += d)                                                                                   \
            UNROLL for (int v = 0; v < vectors; v++)                                                                   \
                UNROLL for (int i = 0; i < N; i++)                                                                     \
                    s[v * N + i] = fused(all(w[i * room + l]), load_##T(row + v * W), s[v * N + i]);                   \
        UNROLL for (int half = parts / 2; half >= 1; half /= 2)                                                        \
            UNROLL for (int i = 0; i < half * sums; i++) s[i] += s[i + half * sums];                                   \
        UNROLL for (int v = 0; v < vectors; v++)                                                                       \
            UNROLL for (int i = 0; i < N; i++) *(V *)(out + i * d + j + v * W) += s[v * N + i];                        \
    }                                                                                                                  \
    ALWAYS void mixes_of_##T(                                                                                          \
        const T *values, const float *w, int64_t room, int64_t n, int64_t d, float *out, int64_t ahead, const int N    \
    ) {                                                                                                                \
        int64_t j = 0;                                                                                                 \
        if (N == 1)                                                                                                    \
            for (; j + 4 * W <= d; j += 4 * W) mix_of_##T(values, w, room, n, d, j, out, ahead, N, 4);                 \
        for (; j + 2 * W <= d; j += 2 * W) mix_of_##T(values, w, room, n, d, j, out, ahead, N, 2);                     \
        for (; j + W <= d; j += W) mix_of_##T(values, w, room, n, d, j, out, ahead, N, 1);                             \
    }                                                                                                                  \
    /* The same for Q queries, as many at once as registers allow. */                                                  \
    static void scores_##T(                                                                                            \
        const T *keys, const float *q, int64_t Q, int64_t d, int64_t n, float *out, int64_t room, int64_t ahead        \
    ) {                                                                                                                \
        for (int64_t i = 0, N = MOST; i < Q; i += N) {                                                                 \
            while (N > Q - i) N /= 2;                                                                                  \
            if (MOST == 8 && N == 8) scores_of_##T(keys, q + i * d, d, n, out + i * room, room, ahead, 8);             \
            if (MOST == 8 && N == 4) scores_of_##T(keys, q + i * d, d, n, out + i * room, room, ahead, 4);             \
            if (N == 2) scores_of_##T(keys, q + i * d, d, n, out + i * room, room, ahead, 2);                          \
            if (N == 1) scores_of_##T(keys, q + i * d, d, n, out + i * room, room, ahead, 1);                          \
        }                                                                                                              \
    }                                                                                                                  \
    static void mix_##T(                                                                                               \
        const T *values, const float *w, int64_t room, int64_t Q, int64_t n, int64_t d, float *out, int64_t ahead      \
    ) {                                                                                                                \
        for (int64_t i = 0, N = MOST; i < Q; i += N) {                                                                 \
            while (N > Q - i) N /= 2;                                                                                  \
            if (MOST == 8 && N == 8) mixes_of_##T(values, w + i * room, room, n, d, out + i * d, ahead, 8);            \
            if (MOST == 8 && N == 4) mixes_of_##T(values, w + i * room, room, n, d, out + i * d, ahead, 4);            \
            if (N == 2) mixes_of_##T(values, w + i * room, room, n, d, out + i * d, ahead, 2);                         \
            if (N == 1) mixes_of_##T(values, w + i * room, room, n, d, out + i * d, ahead, 1);                         \
        }                                                                                                              \
    }                                                                                                                  \
    /* q and out (R, K, G, d). block (R): each row's block of `prompts`. length (blocks): the positions of it that */  \
    /* count. Of the rows' own blocks positions before `now` count; new_keys and new_values (R, K, d) become that */   \
    /* position. `before` (K, R, G, prefix): scores against a prefix that all rows share, which become its weights; */ \
    /* out lacks its part. Room: whole (2 R + blocks + 2), and rooms (threads, at least 8 and G, room), whose rows */  \
    /* hold all scores of a query and W more. */                                                                       \
    void attend_##T(                                                                                                   \
        const T *q, T *out, const T *new_keys, const T *new_values, int64_t now, T *before, int64_t prefix, int64_t R, \
        int64_t K, int64_t G, int64_t d, float scale, const Blocks *prompts, const int64_t *block,                     \
        const int64_t *length, int64_t blocks, const Blocks *own, int64_t *whole, float *rooms, int64_t room,          \
        int threads                                                                                                    \
    ) {                                                                                                                \
        int64_t *order = whole, *first = order + R, most = G < MOST ? MOST / G : 1, queries = G < 8 ? 8 : G;           \
        int64_t found = bunches(block, R, blocks, most, order, first, first + R + 1);                                  \
        _Pragma("omp parallel for num_threads(threads) schedule(static)")                                              \
        for (int64_t at = 0; at < found * K; at++) {                                                                   \
            int64_t k = at % K, begin = first[at / K], rows = first[at / K + 1] - begin, Q = rows * G;                 \
            int64_t b = block[order[begin]], n = length[b], place[Q], of_row[rows + 1];                                \
            float *scores = rooms + room * queries * omp_get_thread_num(), asked[Q * d], mixed[Q * d], sums[Q];        \
            float *of_prompt = scores + prefix, *of_own = of_prompt + n;                                               \
            for (int64_t i = 0; i < Q; i++) {                                                                          \
                int64_t r = of_row[i / G] = order[begin + i / G];                                                      \
                place[i] = (r * K + k) * G + i % G;                                                                    \
                const T *common = before + ((k * R + r) * G + i % G) * prefix;                                         \
                int64_t l = 0;                                                                                         \
                for (; l + W <= prefix; l += W) *(V *)(scores + i * room + l) = load_##T(common + l);                  \
                for (; l < prefix; l++) scores[i * room + l] = one_##T(common + l);                                    \
                for (int64_t j = 0; j < d; j += W) {                                                                   \
                    *(V *)(asked + i * d + j) = load_##T(q + place[i] * d + j) * scale;                                \
                    *(V *)(mixed + i * d + j) = (V){0};                                                                \
                }                                                                                                      \
            }                                                                                                          \
            of_row[rows] = of_row[rows - 1]; /* behind the last row comes another head */                              \
            const T *keys = (T *)prompts->keys + b * prompts->keys_block + k * prompts->keys_head;                     \
            scores_##T(keys, asked, Q, d, n, of_prompt, room, 0);                                                      \
            for (int64_t i = 0; i < Q; i += G) {                                                                       \
                int64_t r = of_row[i / G], next = (of_row[i / G + 1] - r) * own->keys_block;                           \
                keys = (T *)own->keys + r * own->keys_block + k * own->keys_head;                                      \
                scores_##T(keys, asked + i * d, G, d, now, of_own + i * room, room, next ? next : own->keys_head);     \
            }                                                                                                          \
            for (int64_t i = 0; i < Q; i++) {                                                                          \
                int64_t r = of_row[i / G];                                                                             \
                const T *key = new_keys + (r * K + k) * d;                                                             \
                V s = {0};                                                                                             \
                for (int64_t j = 0; j < d; j += W) s = fused(*(V *)(asked + i * d + j), load_##T(key + j), s);         \
                of_own[i * room + now] = total(s);                                                                     \
                float top;                                                                                             \
                sums[i] = exponentials(scores + i * room, prefix + n + now + 1, &top);                                 \
                T *common = before + ((k * R + r) * G + i % G) * prefix;                                               \
                int64_t l = 0;                                                                                         \
                for (; l + W <= prefix; l += W) store_##T(common + l, *(V *)(scores + i * room + l) / sums[i]);        \
                for (; l < prefix; l++) common[l] = as_##T(scores[i * room + l] / sums[i]);                            \
            }                                                                                                          \
            const T *values = (T *)prompts->values + b * prompts->values_block + k * prompts->values_head;             \
            mix_##T(values, of_prompt, room, Q, n, d, mixed, 0);                                                       \
            for (int64_t i = 0; i < Q; i += G) {                                                                       \
                int64_t r = of_row[i / G], next = (of_row[i / G + 1] - r) * own->values_block;                         \
                values = (T *)own->values + r * own->values_block + k * own->values_head;                              \
                mix_##T(values, of_own + i * room, room, G, now, d, mixed + i * d, next ? next : own->values_head);    \
            }                                                                                                          \
            for (int64_t i = 0; i < Q; i++) {                                                                          \
                const T *value = new_values + place[i] / G * d;                                                        \
                V weight = all(of_own[i * room + now]);                                                                \
                for (int64_t j = 0; j < d; j += W) {                                                                   \
                    V sum = fused(weight, load_##T(value + j), *(V *)(mixed + i * d + j));                             \
                    store_##T(out + place[i] * d + j, sum / sums[i]);                                                  \
                }                                                                                                      \
            }                                                                                                          \
            /* Only now: a vector that holds what was just written would have to wait. */                              \
            for (int64_t i = 0; i < Q; i += G) {                                                                       \
                int64_t r = of_row[i / G], from = (r * K + k) * d;                                                     \
                T *key = (T *)own->keys + r * own->keys_block + k * own->keys_head + now / W * d * W + now % W;        \
                T *value = (T *)own->values + r * own->values_block + k * own->values_head + now * d;                  \
                for (int64_t j = 0; j < d; j++) key[j * W] = new_keys[from + j];                                       \
                memcpy(value, new_values + from, d * sizeof(T));                                                       \
            }                                                                                                          \
        }                                                                                                              \
    }

ATTENTION(float)
ATTENTION(bf16)
