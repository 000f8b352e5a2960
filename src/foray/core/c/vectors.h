// Vectors of floats, and rows shared out among threads, for the C files of this folder.

#include <math.h>
#include <omp.h>
#include <stdint.h>
#include <string.h>
#ifdef __AVX512F__
#include <immintrin.h>
#endif

enum { W = 16 };  // lanes of a vector; the compiler splits it where the machine's vectors are shorter
typedef float V __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef uint16_t Half __attribute__((vector_size(2 * W), aligned(2), may_alias));
typedef uint16_t bf16;

enum { SMALL = 1 << 14 };  // entries that one thread computes before others are awake
#define ROWS _Pragma("omp parallel for num_threads(threads) schedule(static) if (threads > 1)")

static inline int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
static inline V all(float x) { return (V){0} + x; }
static inline V pick(I which, V yes, V no) { return (V)((which & (I)yes) | (~which & (I)no)); }
// Each lane with the one so many lanes on.
#define SHIFTED(x, n) __builtin_shuffle(x, ((I){0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} + n) & (W - 1))
static inline float total(V x) {
    x += SHIFTED(x, 8), x += SHIFTED(x, 4), x += SHIFTED(x, 2);
    return x[0] + x[1];
}
static inline V larger(V x, V y) { return pick(x > y, x, y); }
static inline float largest_of(V x) {
    x = larger(x, SHIFTED(x, 8)), x = larger(x, SHIFTED(x, 4)), x = larger(x, SHIFTED(x, 2));
    return x[0] > x[1] ? x[0] : x[1];
}

// a b + c, rounded once where the machine can. Said outright, because compilers differ in what they contract.
static inline V fused(V a, V b, V c) {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    V sum;
    for (int i = 0; i < W; i++) sum[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return sum;
#else
    return a * b + c;
#endif
}

// The bits of the nearest bf16, of two the even one, in the upper half of each lane. The lower half is 0.
static inline V nearest(V x) { return pick(x == x, (V)(((I)x + 0x7fff + (((I)x >> 16) & 1)) & ~0xffff), all(NAN)); }

static inline V load_float(const float *x) { return *(const V *)x; }
static inline V load_bf16(const bf16 *x) {
#ifdef __AVX512F__  // GCC 12 takes five instructions for the conversion
    return (V)_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)x)), 16);
#else
    return (V)(__builtin_convertvector(*(const Half *)x, I) << 16);
#endif
}
static inline void store_float(float *to, V x) { *(V *)to = x; }
static inline void store_bf16(bf16 *to, V x) {
#ifdef __AVX512BF16__  // one instruction, to which numbers below 2^-126 are 0
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh((__m512)x));
#else
    *(Half *)to = __builtin_convertvector((I)nearest(x) >> 16, Half);
#endif
}
static inline V rounded_float(V x) { return x; }
static inline V rounded_bf16(V x) { return nearest(x); }

static inline float one_float(const float *x) { return *x; }
static inline float one_bf16(const bf16 *x) {
    uint32_t bits = (uint32_t)*x << 16;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline float as_float(float x) { return x; }
static inline bf16 as_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    return x != x ? 0x7fc0 : (bf16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// e^x for x <= 0 and not far above, to a unit in the last place (Cephes' polynomial). NaN stays NaN: no value is cast
// to a whole number.
static inline V exponential(V x) {
    const V rounder = all(12582912.0f);  // 1.5 x 2^23, after which whole numbers follow
    x = pick(x < all(-87.0f), all(-87.0f), x);
    V shifted = fused(x, all(1.44269504f), rounder), n = shifted - rounder;
    V f = fused(n, all(-1.42860677e-6f), fused(n, all(-0.693145752f), x));
    V p = fused(f, all(1.9875691500e-4f), all(1.3981999507e-3f));
    p = fused(p, f, all(8.3334519073e-3f));
    p = fused(p, f, all(4.1665795894e-2f));
    p = fused(p, f, all(1.6666665459e-1f));
    p = fused(p, f, all(5.0000001201e-1f));
    p = fused(p, f * f, f) + 1.0f;
    return p * (V)(((I)shifted - 0x4b400000 + 127) << 23);
}

// Turns scores (n, with room up to the next multiple of W) into exp(score - the largest). Returns their sum.
static inline float exponentials(float *s, int64_t n, float *largest) {
    int64_t end = n;
    for (; end % W; end++) s[end] = -INFINITY;
    V most = all(-INFINITY), sums = {0};
    for (int64_t l = 0; l < end; l += W) {
        V x = *(V *)(s + l);
        most = larger(x, most);
    }
    float top = largest_of(most);
    for (int64_t l = 0; l < end; l += W) {
        V x = *(V *)(s + l);
        V e = pick(x == -INFINITY, (V){0}, exponential(x - top));
        *(V *)(s + l) = e;
        sums += e;
    }
    *largest = top;
    return total(sums);
}
