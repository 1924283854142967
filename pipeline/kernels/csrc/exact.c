/* fp32 arithmetic whose results do not depend on who shares a batch; see body.h for the contract and
 * pipeline/kernels for the Python side, which checks all shapes before it calls. Nothing here
 * allocates memory, and every array is the caller's.
 *
 * The same source is compiled for AVX-512, for AVX2 with FMA and as plain C. All give the same bits;
 * what the processor can do is asked at run time. Compile with -ffp-contract=off: a compiler that
 * fuses what is not written as fma changes results.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "workers.h"

#define MOST_SIZE 1024 /* the largest head */
#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)

struct linear {
    const float *x, *weights, *bias, *residual; /* weights as exact_pack lays them out */
    float *y;
    size_t ldx, rows, inner, outer;
};

/* Tokens start .. start+count-1 of the sequence whose position 0 is `offset` in the pool; their
 * queries are rows row .. row+count-1. */
struct piece {
    int64_t offset, start, count, row;
};

struct attention {
    const float *q;      /* query t of head h at q + t * q_row + h * q_head */
    const float *keys;   /* [key_heads][blocks][key_size][16] */
    const float *values; /* [key_heads][blocks * 16][value_size], and 16 more that are only read */
    float *out;          /* [rows][heads][value_size] */
    const struct piece *pieces;
    float *scratch; /* exact_scratch() floats for each thread */
    size_t q_row, q_head, count, heads, key_heads, key_size, value_size, blocks;
    size_t window; /* 0: all positions up to the query's own */
    float scale;
};

static inline size_t visible_from(size_t window, size_t at) {
    return window && at + 1 > window ? at + 1 - window : 0;
}
static inline size_t score_room(size_t keys) { return (keys + 47) & ~(size_t)15; }

#define NAME(x) JOIN(x, portable)
#define INLINE static inline __attribute__((always_inline))
#define HOT static __attribute__((noinline))
#include "lanes.h"
#include "body.h"
#undef NAME
#undef INLINE
#undef HOT
#if defined(__x86_64__)
#define NAME(x) JOIN(x, avx2)
#define INLINE static inline __attribute__((always_inline, target("avx2,fma")))
#define HOT static __attribute__((noinline, target("avx2,fma")))
#define ISA_AVX2 1
#include "lanes.h"
#include "body.h"
#undef ISA_AVX2
#undef NAME
#undef INLINE
#undef HOT
#define NAME(x) JOIN(x, avx512)
#define INLINE static inline __attribute__((always_inline, target("avx512f,avx2,fma")))
#define HOT static __attribute__((noinline, target("avx512f,avx2,fma")))
#define ISA_AVX512 1
#include "lanes.h"
#include "body.h"
#undef ISA_AVX512
#undef NAME
#undef INLINE
#undef HOT
#endif

struct kernels {
    void (*linear)(const struct linear *, size_t, size_t);
    void (*norm)(const float *, const float *, float *, size_t, float);
    void (*silu_mul)(const float *, const float *, float *, size_t);
    void (*turn)(const float *, size_t, size_t, const float *, float, const float *, const float *,
                 float *);
    void (*attend)(const struct attention *, const struct piece *, size_t, size_t, size_t, float *);
};
#define KERNELS(isa)                                                                            \
    { JOIN(linear, isa), JOIN(norm, isa), JOIN(silu_mul, isa), JOIN(turn, isa), JOIN(attend, isa) }
static const struct kernels kinds[] = {
    KERNELS(portable),
#if defined(__x86_64__)
    KERNELS(avx2), KERNELS(avx512),
#endif
};
static struct kernels now = KERNELS(portable);

/* What this processor can do: 0 plain C, 1 AVX2 with FMA, 2 AVX-512; -1: it has no fused multiply-add
 * of its own, and imitating it would take a hundred times as long. */
int exact_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("fma") || !__builtin_cpu_supports("avx2")) return -1;
    return __builtin_cpu_supports("avx512f") ? 2 : 1;
#elif defined(__FP_FAST_FMAF)
    return 0;
#else
    return -1;
#endif
}

/* Take the kernels of a level up to exact_level(), or 0. */
void exact_use(int level) { now = kinds[level]; }

/* w [N][K] to panels of 16 columns, [ceil(N / 16)][K][16]; what is beyond N is zero. */
void exact_pack(const float *w, float *panels, size_t N, size_t K) {
    for (size_t n = 0; n < N; n += 16)
        for (size_t k = 0; k < K; k++)
            for (size_t j = 0; j < 16; j++)
                panels[n * K + k * 16 + j] = n + j < N ? w[(n + j) * K + k] : 0.0f;
}

static void linear_job(void *of, size_t part, size_t parts) {
    const struct linear *l = of;
    const size_t panels = (l->outer + 15) / 16;
    now.linear(l, panels * part / parts, panels * (part + 1) / parts);
}
/* y [M][N] = x W' + bias + residual [M][N]; bias and residual may be null; rows of x are ldx apart. */
void exact_linear(const float *x, size_t ldx, const float *panels, const float *bias,
                  const float *residual, float *y, size_t M, size_t K, size_t N, size_t threads) {
    struct linear l = {x, panels, bias, residual, y, ldx, M, K, N};
    run(linear_job, &l, M * K * N < 100000 ? 1 : 4 * threads, threads);
}

struct rows {
    const float *x, *weight;
    float *y;
    size_t rows, size;
    float eps;
};
static void norm_job(void *of, size_t part, size_t parts) {
    const struct rows *r = of;
    for (size_t m = r->rows * part / parts; m < r->rows * (part + 1) / parts; m++)
        now.norm(r->x + m * r->size, r->weight, r->y + m * r->size, r->size, r->eps);
}
/* y = weight * x / sqrt(mean(x ** 2) + eps), rows of `size`. */
void exact_norm(const float *x, const float *weight, float *y, size_t rows, size_t size, float eps,
                size_t threads) {
    struct rows r = {x, weight, y, rows, size, eps};
    run(norm_job, &r, rows * size < 50000 ? 1 : threads, threads);
}

static void silu_job(void *of, size_t part, size_t parts) {
    const struct rows *r = of;
    for (size_t m = r->rows * part / parts; m < r->rows * (part + 1) / parts; m++)
        now.silu_mul(r->x + 2 * m * r->size, r->x + (2 * m + 1) * r->size, r->y + m * r->size,
                     r->size);
}
/* x [rows][2][size], a gate and what it gates, to y [rows][size] = silu(x[0]) * x[1]. */
void exact_silu_mul(const float *x, float *y, size_t rows, size_t size, size_t threads) {
    struct rows r = {x, 0, y, rows, size, 0};
    run(silu_job, &r, rows * size < 20000 ? 1 : threads, threads);
}

/* Where new keys and values go: rows of k and v are k_row, v_row apart, their heads k_head, v_head;
 * row t becomes position at[t] of the pool (see struct attention). */
void exact_put(const float *k, size_t k_row, size_t k_head, const float *v, size_t v_row,
               size_t v_head, const int64_t *at, size_t rows, size_t key_heads, size_t key_size,
               size_t value_size, size_t blocks, float *keys, float *values) {
    for (size_t t = 0; t < rows; t++)
        for (size_t g = 0; g < key_heads; g++) {
            const float *from = k + t * k_row + g * k_head;
            float *to = keys + (g * blocks + at[t] / 16) * 16 * key_size + at[t] % 16;
            for (size_t j = 0; j < key_size; j++) to[j * 16] = from[j];
            memcpy(values + (g * blocks * 16 + at[t]) * value_size, v + t * v_row + g * v_head,
                   value_size * sizeof(float));
        }
}

/* Rows [heads][d] of x, `ldx` apart, normed by head where there is a weight and turned by the angles
 * of their position, cosine and sine [rows][d], to y [rows][heads][d]. d is even, at most 1024. */
void exact_turn(const float *x, size_t ldx, size_t rows, size_t heads, size_t d, const float *weight,
                float eps, const float *cosine, const float *sine, float *y) {
    for (size_t t = 0; t < rows; t++)
        now.turn(x + t * ldx, heads, d, weight, eps, cosine + t * d, sine + t * d,
                 y + t * heads * d);
}

/* Queries computed together: as many as keep their scores in the second-level cache, at most 16. */
static size_t tile_queries(const struct attention *a, size_t high) {
    const size_t share = a->heads / a->key_heads;
    size_t queries = 262144 / (share * score_room(high));
    const size_t most = share < 48 ? 48 / share : 1;
    if (queries > most) queries = most;
    return queries > 16 ? 16 : queries ? queries : 1;
}

/* Floats of scratch that one thread needs. */
size_t exact_scratch(const struct attention *a) {
    size_t most = 0;
    for (size_t i = 0; i < a->count; i++) {
        const struct piece *p = a->pieces + i;
        const size_t high = p->start + p->count, queries = tile_queries(a, high);
        const size_t rows = queries * (a->heads / a->key_heads);
        const size_t need = rows * (a->key_size + score_room(high + 16) + a->value_size + 17);
        if (need > most) most = need;
    }
    return (most + 31) & ~(size_t)31;
}

struct attention_job {
    const struct attention *a;
    size_t scratch;
    atomic_size_t next;
};
static void attention_job(void *of, size_t part, size_t parts) {
    struct attention_job *job = of;
    const struct attention *a = job->a;
    float *scratch = a->scratch + part * job->scratch;
    size_t mine = atomic_fetch_add(&job->next, 1), number = 0;
    (void)parts;
    for (size_t i = 0; i < a->count; i++) {
        const struct piece *p = a->pieces + i;
        const size_t count = p->count, queries = tile_queries(a, p->start + p->count);
        for (size_t t = 0; t < count; t += queries)
            for (size_t g = 0; g < a->key_heads; g++)
                if (number++ == mine) {
                    now.attend(a, p, g, t, t + queries < count ? t + queries : count, scratch);
                    mine = atomic_fetch_add(&job->next, 1);
                }
    }
}
/* Attention of every piece over its own sequence. */
void exact_attend(const struct attention *a, size_t threads) {
    struct attention_job job = {a, exact_scratch(a), 0};
    run(attention_job, &job, threads, threads);
}
