// Probabilities of a row of logits, and tokens drawn from them, on a CPU. rollout/draw_in_c.py calls it.
//
// Sums are in fp32 within 64 tokens and in double beyond, in an order that the number of threads does not change.

#include "vectors.h"

enum { BLOCK = 64 };  // tokens that are summed first

// p = softmax(logits / temperature); rows of n entries, those of p `width` apart: a multiple of W, from n on.
#define PROBABILITIES(T)                                                                                               \
    void probabilities_##T(                                                                                            \
        const T *logits, float temperature, float *p, int64_t width, int64_t rows, int64_t n, int threads              \
    ) {                                                                                                                \
        threads = rows * n > SMALL ? threads : 1;                                                                      \
        ROWS                                                                                                           \
        for (int64_t r = 0; r < rows; r++) {                                                                           \
            const T *from = logits + r * n;                                                                            \
            float *to = p + r * width, top;                                                                            \
            int64_t j = 0;                                                                                             \
            for (; j + W <= n; j += W) *(V *)(to + j) = load_##T(from + j) / temperature;                              \
            for (; j < n; j++) to[j] = one_##T(from + j) / temperature;                                                \
            float by = 1 / exponentials(to, n, &top);                                                                  \
            for (j = 0; j < n; j += W) *(V *)(to + j) *= by;                                                           \
        }                                                                                                              \
    }

PROBABILITIES(float)
PROBABILITIES(bf16)

// The sum of the entries that are at most `most`, of n with zeros up to a multiple of W behind them.
static float sum_up_to(const float *p, int64_t n, float most) {
    V one = {0}, two = {0};
    int64_t j = 0;
    for (; j + W < n; j += 2 * W) {
        V x = *(const V *)(p + j), y = *(const V *)(p + j + W);
        one += pick(x <= most, x, (V){0}), two += pick(y <= most, y, (V){0});
    }
    for (; j < n; j += W) one += pick(*(const V *)(p + j) <= most, *(const V *)(p + j), (V){0});
    return total(one + two);
}

// Of each row of p the fewest likely tokens that have all but `rest` of its sum, and those as likely as the last of
// them, scaled to sum to 1; 0 for the others. Rows of n entries, `width` apart; those of out a multiple of W apart.
void keep_top(
    const float *p, int64_t width, float *out, int64_t out_width, float rest, int64_t rows, int64_t n, int threads
) {
    threads = rows * n > SMALL ? threads : 1;
    ROWS
    for (int64_t r = 0; r < rows; r++) {
        float *row = out + r * out_width;
        memcpy(row, p + r * width, n * sizeof(float));
        memset(row + n, 0, (out_width - n) * sizeof(float));
        V most = {0};
        for (int64_t j = 0; j < n; j += W) most = larger(*(V *)(row + j), most);
        float top = largest_of(most), sum = sum_up_to(row, n, INFINITY), least = top, above = rest * sum;
        if (!(top >= sum - above)) {  // else the likeliest token is enough, as at most places of a text
            // The least number that the entries up to it sum to more than `above`. It is an entry: there the sum grows.
            // Numbers above 0 have the order of their bits, which are halved until one is left.
            int32_t low = 0, high, middle;
            memcpy(&high, &top, 4);
            while (low < high) {
                middle = low + (high - low) / 2;
                memcpy(&least, &middle, 4);
                if (sum_up_to(row, n, least) > above) high = middle;
                else low = middle + 1;
            }
            memcpy(&least, &high, 4);
        }
        V kept = {0};
        for (int64_t j = 0; j < n; j += W) {
            V x = *(V *)(row + j);
            kept += *(V *)(row + j) = pick(x < least, (V){0}, x);
        }
        float by = 1 / total(kept);
        for (int64_t j = 0; j < n; j += W) *(V *)(row + j) *= by;
    }
}

static float sum_of_block(const float *p, int64_t n) {
    V sums = {0};
    float rest = 0;
    int64_t j = 0;
    for (; j + W <= n; j += W) sums += *(const V *)(p + j);
    for (; j < n; j++) rest += p[j];
    return total(sums) + rest;
}

// A token of each sample and the log of its probability, by inverse CDF at u (samples), in [0, 1). row (samples): the
// row of p that each is drawn from; rows of n entries, `width` apart. cdf (rows, blocks of n) is room.
void draw(
    const float *p, int64_t width, const double *u, const int64_t *row, int64_t *token, float *logprob, float *cdf,
    int64_t rows, int64_t n, int64_t samples, int threads
) {
    // A target is below the sum that it belongs to: rounding never leads beyond the end. The first entry above a target
    // is larger than the entry before it, so its token has a probability above 0. NaN leads to the last token.
    const float below_one = 1 - 0x1p-24f;
    int64_t blocks = (n + BLOCK - 1) / BLOCK;
    threads = rows * n > SMALL ? threads : 1;
    ROWS
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0;
        for (int64_t b = 0; b < blocks; b++) {
            int64_t first = b * BLOCK, size = n - first < BLOCK ? n - first : BLOCK;
            sum += sum_of_block(p + r * width + first, size);
            cdf[r * blocks + b] = (float)sum;
        }
    }
    ROWS
    for (int64_t s = 0; s < samples; s++) {
        const float *up_to = cdf + row[s] * blocks, x = u[s] < below_one ? (float)u[s] : below_one;
        float target = x * up_to[blocks - 1];
        int64_t b = 0, end = blocks - 1;
        while (b < end) {
            int64_t middle = (b + end) / 2;
            if (up_to[middle] > target) end = middle;
            else b = middle + 1;
        }
        int64_t first = b * BLOCK, size = n - first < BLOCK ? n - first : BLOCK, j = 0;
        const float *within = p + row[s] * width + first;
        double all_of = 0, so_far = 0;
        for (int64_t i = 0; i < size; i++) all_of += within[i];
        float rest = target - (b ? up_to[b - 1] : 0), most = (float)all_of * below_one;
        rest = rest < 0 ? 0 : rest < most ? rest : most;
        for (; j < size - 1; j++) {
            so_far += within[j];
            if ((float)so_far > rest) break;
        }
        token[s] = first + j;
        logprob[s] = logf(within[j]);
    }
}
