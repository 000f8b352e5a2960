// The small operations of a layer and of a loss, forward and backward, on a CPU. model/layer_in_c.py calls them.
//
// Each reads its operands once or twice, where torch makes a pass over memory for every sum and product. Rows have a
// multiple of W entries, unless it is said. Sums are in fp32, in an order that the number of threads does not change.

#include "vectors.h"

static inline V sigmoid(V x) {
    V e = exponential(pick(x > 0, -x, x));
    return pick(x > 0, all(1), e) / (1.0f + e);
}

// T: of x and the gradients of x; U: of the result and its gradients.
#define NORM(T, U)                                                                                                     \
    /* out = add + w x / rms(x), rows of n; add may be null. inverse (rows): 1 / rms(x); may be null. */               \
    void norm_##T##_##U(                                                                                               \
        const T *x, const float *w, const U *add, U *out, float *inverse, int64_t rows, int64_t n, float eps,          \
        int threads                                                                                                    \
    ) {                                                                                                                \
        threads = rows * n > SMALL ? threads : 1;                                                                      \
        ROWS                                                                                                           \
        for (int64_t r = 0; r < rows; r++) {                                                                           \
            const T *from = x + r * n;                                                                                 \
            U *to = out + r * n;                                                                                       \
            float by = inverse_rms_##T(from, n, eps);                                                                  \
            if (inverse) inverse[r] = by;                                                                              \
            for (int64_t j = 0; j < n; j += W) {                                                                       \
                V y = rounded_##T(*(V *)(w + j) * (load_##T(from + j) * by));                                          \
                if (add) y += load_##U(add + r * n + j);                                                               \
                store_##U(to + j, y);                                                                                  \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    /* to_w (parts, n): sums over equal parts of the rows */                                                           \
    void norm_back_##T##_##U(                                                                                          \
        const U *g, const T *x, const float *w, const float *inverse, T *to_x, float *to_w, int64_t parts,             \
        int64_t rows, int64_t n, int threads                                                                           \
    ) {                                                                                                                \
        threads = rows * n > SMALL ? threads : 1;                                                                      \
        int64_t each = (rows + parts - 1) / parts;                                                                     \
        ROWS                                                                                                           \
        for (int64_t part = 0; part < parts; part++) {                                                                 \
            float *sums = to_w + part * n;                                                                             \
            memset(sums, 0, n * sizeof(float));                                                                        \
            for (int64_t r = part * each; r < (part + 1) * each && r < rows; r++) {                                    \
                float by = inverse[r];                                                                                 \
                V along = {0};                                                                                         \
                for (int64_t j = 0; j < n; j += W) {                                                                   \
                    V gh = load_##U(g + r * n + j) * (load_##T(x + r * n + j) * by);                                   \
                    *(V *)(sums + j) += gh;                                                                            \
                    along += gh * *(V *)(w + j);                                                                       \
                }                                                                                                      \
                float mean = total(along) / n;                                                                         \
                for (int64_t j = 0; j < n; j += W) {                                                                   \
                    V h = load_##T(x + r * n + j) * by;                                                                \
                    store_##T(to_x + r * n + j, (load_##U(g + r * n + j) * *(V *)(w + j) - h * mean) * by);            \
                }                                                                                                      \
            }                                                                                                          \
        }                                                                                                              \
    }

// cos and sin (period, d) of the tokens, which repeat; d a multiple of 2 W. sin is negative in its first half.
#define LAYER(T)                                                                                                       \
    static inline float inverse_rms_##T(const T *x, int64_t n, float eps) {                                            \
        V squares = {0};                                                                                               \
        for (int64_t j = 0; j < n; j += W) {                                                                           \
            V h = load_##T(x + j);                                                                                     \
            squares += h * h;                                                                                          \
        }                                                                                                              \
        return 1.0f / sqrtf(total(squares) / n + eps);                                                                 \
    }                                                                                                                  \
    /* The heads (d) of tokens, each rotated by its token's angle. Before it they are multiplied by w (n) and, over */ \
    /* n entries together, by 1 / rms; with null for w they are not. inverse: as above. */                             \
    void rotate_##T(                                                                                                   \
        const T *x, const float *w, const float *cos, const float *sin, T *out, float *inverse, int64_t tokens,        \
        int64_t heads, int64_t d, int64_t n, int64_t period, float eps, int threads                                    \
    ) {                                                                                                                \
        threads = tokens * heads * d > SMALL ? threads : 1;                                                            \
        ROWS                                                                                                           \
        for (int64_t t = 0; t < tokens; t++) {                                                                         \
            const float *c = cos + t % period * d, *s = sin + t % period * d;                                          \
            for (int64_t h = 0; h < heads * d; h += n) {                                                               \
                const T *from = x + t * heads * d + h;                                                                 \
                T *to = out + t * heads * d + h;                                                                       \
                float by = w ? inverse_rms_##T(from, n, eps) : 1;                                                      \
                if (w && inverse) inverse[(t * heads * d + h) / n] = by;                                               \
                for (int64_t j = 0; j < n; j += d)                                                                     \
                    for (int64_t i = 0; i < d / 2; i += W) {                                                           \
                        int64_t a = j + i, b = a + d / 2;                                                              \
                        V one = load_##T(from + a), two = load_##T(from + b);                                          \
                        if (w) {                                                                                       \
                            one = rounded_##T(*(V *)(w + a) * (one * by));                                             \
                            two = rounded_##T(*(V *)(w + b) * (two * by));                                             \
                        }                                                                                              \
                        store_##T(to + a, fused(two, *(V *)(s + i), one * *(V *)(c + i)));                             \
                        store_##T(to + b, fused(one, *(V *)(s + i + d / 2), two * *(V *)(c + i + d / 2)));             \
                    }                                                                                                  \
            }                                                                                                          \
        }                                                                                                              \
    }                                                                                                                  \
    /* Rotates the gradients back: then they are those of the norm's result. */                                        \
    void rotate_back_##T(                                                                                              \
        const T *g, const float *cos, const float *sin, T *out, int64_t tokens, int64_t heads, int64_t d,              \
        int64_t period, int threads                                                                                    \
    ) {                                                                                                                \
        threads = tokens * heads * d > SMALL ? threads : 1;                                                            \
        ROWS                                                                                                           \
        for (int64_t t = 0; t < tokens; t++) {                                                                         \
            const float *c = cos + t % period * d, *s = sin + t % period * d;                                          \
            for (int64_t h = t * heads * d; h < (t + 1) * heads * d; h += d)                                           \
                for (int64_t i = 0; i < d / 2; i += W) {                                                               \
                    V one = load_##T(g + h + i), two = load_##T(g + h + i + d / 2);                                    \
                    store_##T(out + h + i, fused(two, *(V *)(s + i + d / 2), one * *(V *)(c + i)));                    \
                    store_##T(out + h + i + d / 2, fused(one, *(V *)(s + i), two * *(V *)(c + i + d / 2)));            \
                }                                                                                                      \
        }                                                                                                              \
    }                                                                                                                  \
    /* out = silu(a) b; n entries */                                                                                   \
    void gate_##T(const T *a, const T *b, T *out, int64_t n, int threads) {                                            \
        threads = n > SMALL ? threads : 1;                                                                             \
        ROWS                                                                                                           \
        for (int64_t j = 0; j < n; j += W) {                                                                           \
            V x = load_##T(a + j);                                                                                     \
            store_##T(out + j, rounded_##T(x * sigmoid(x)) * load_##T(b + j));                                         \
        }                                                                                                              \
    }                                                                                                                  \
    void gate_back_##T(const T *g, const T *a, const T *b, T *to_a, T *to_b, int64_t n, int threads) {                 \
        threads = n > SMALL ? threads : 1;                                                                             \
        ROWS                                                                                                           \
        for (int64_t j = 0; j < n; j += W) {                                                                           \
            V x = load_##T(a + j), s = sigmoid(x), to = load_##T(g + j);                                               \
            store_##T(to_b + j, to * rounded_##T(x * s));                                                              \
            store_##T(to_a + j, to * load_##T(b + j) * (s * fused(x, 1.0f - s, all(1))));                              \
        }                                                                                                              \
    }

LAYER(float)
LAYER(bf16)
NORM(float, float)
NORM(bf16, bf16)
NORM(bf16, float)

// Gradients of the input of two or three products: a + b + c, where c may be null; n entries.
void sum_bf16(const bf16 *a, const bf16 *b, const bf16 *c, float *out, int64_t n, int threads) {
    threads = n > SMALL ? threads : 1;
    ROWS
    for (int64_t j = 0; j < n; j += W) {
        V sum = load_bf16(a + j) + load_bf16(b + j);
        if (c) sum += load_bf16(c + j);
        *(V *)(out + j) = sum;
    }
}

// Of each row of logits (n, any number): the log-probability of the target and the log-partition. The way back turns
// the logits into their gradients, in their place or not: (g_z - g) p, and g more at the target.
#define TARGET(T)                                                                                                      \
    void target_##T(                                                                                                   \
        const T *logits, const int64_t *targets, float *logprobs, float *log_z, int64_t rows, int64_t n, float *rooms, \
        int threads                                                                                                    \
    ) {                                                                                                                \
        int64_t end = (n + W - 1) / W * W;                                                                             \
        threads = rows * n > SMALL ? threads : 1;                                                                      \
        ROWS                                                                                                           \
        for (int64_t r = 0; r < rows; r++) {                                                                           \
            float *room = rooms + end * omp_get_thread_num(), top;                                                     \
            int64_t j = 0;                                                                                             \
            for (; j + W <= n; j += W) *(V *)(room + j) = load_##T(logits + r * n + j);                                \
            for (; j < n; j++) room[j] = one_##T(logits + r * n + j);                                                  \
            float hit = room[targets[r]], sum = exponentials(room, n, &top);                                           \
            log_z[r] = top + logf(sum);                                                                                \
            logprobs[r] = hit - top - logf(sum);                                                                       \
        }                                                                                                              \
    }                                                                                                                  \
    void target_back_##T(                                                                                              \
        const float *g, const float *g_z, const int64_t *targets, const T *logits, const float *log_z, T *out,         \
        int64_t rows, int64_t n, int threads                                                                           \
    ) {                                                                                                                \
        threads = rows * n > SMALL ? threads : 1;                                                                      \
        ROWS                                                                                                           \
        for (int64_t r = 0; r < rows; r++) {                                                                           \
            const T *from = logits + r * n;                                                                            \
            T *to = out + r * n;                                                                                       \
            float by = g_z[r] - g[r], z = log_z[r], hit = expf(one_##T(from + targets[r]) - z) * by + g[r];            \
            int64_t j = 0;                                                                                             \
            for (; j + W <= n; j += W) store_##T(to + j, exponential(load_##T(from + j) - z) * by);                    \
            for (; j < n; j++) to[j] = as_##T(expf(one_##T(from + j) - z) * by);                                       \
            to[targets[r]] = as_##T(hit);                                                                              \
        }                                                                                                              \
    }

TARGET(float)
TARGET(bf16)
