/* The kernels, for one instruction set. Included once for each, after lanes.h.
 *
 * The contract: a result's bits depend on nothing but the operands of its own row. Every element of a
 * product is one chain of fused multiply-adds, in the order of the inner dimension, from zero:
 *
 *     c = 0;  for k = 0 .. K-1:  c = fma(a[k], b[k], c)
 *
 * A chain may be put down in memory and taken up again (`resume`), which changes no bit. How many
 * rows and columns are computed side by side is free, since chains do not touch. Other sums (the
 * squares of a norm, the weights of a softmax) run in 16 lanes by position modulo 16, and the lanes
 * are then added in a fixed tree.
 */

/* c[i][p][j] = (resume ? c : 0) + sum over k of a[i][k] * b[p][k][j], for M rows and P panels of W
 * vectors. Rows of a are lda apart, of c ldc; panels of b are bp apart and their rows ldb; panels of
 * c are cp apart. */
INLINE void NAME(tile)(const int M, const int P, const int W, const float *a, size_t lda,
                       const float *b, size_t bp, size_t ldb, float *c, size_t ldc, size_t cp,
                       size_t K, int resume) {
    V sum[6][8];
#pragma GCC unroll 6
    for (int i = 0; i < M; i++)
#pragma GCC unroll 8
        for (int w = 0; w < P * W; w++)
            sum[i][w] = resume ? load(c + i * ldc + (w / W) * cp + (w % W) * VL) : all(0.0f);
    for (size_t k = 0; k < K; k++) {
        /* The fewer of the two operands stay in registers while the others pass by. */
        if (M <= P * W) {
            V x[6];
#pragma GCC unroll 6
            for (int i = 0; i < M; i++) x[i] = all(a[i * lda + k]);
#pragma GCC unroll 8
            for (int w = 0; w < P * W; w++) {
                const V y = load(b + (w / W) * bp + k * ldb + (w % W) * VL);
#pragma GCC unroll 6
                for (int i = 0; i < M; i++) sum[i][w] = fma_(x[i], y, sum[i][w]);
            }
        } else {
            V y[8];
#pragma GCC unroll 8
            for (int w = 0; w < P * W; w++) y[w] = load(b + (w / W) * bp + k * ldb + (w % W) * VL);
#pragma GCC unroll 6
            for (int i = 0; i < M; i++) {
                const V x = all(a[i * lda + k]);
#pragma GCC unroll 8
                for (int w = 0; w < P * W; w++) sum[i][w] = fma_(x, y[w], sum[i][w]);
            }
        }
    }
#pragma GCC unroll 6
    for (int i = 0; i < M; i++)
#pragma GCC unroll 8
        for (int w = 0; w < P * W; w++)
            store(c + i * ldc + (w / W) * cp + (w % W) * VL, sum[i][w]);
}

/* As many vectors side by side as M rows leave registers for. */
#if ISA_AVX512
#define ROOM(M) ((M) == 1 ? 8 : 4)
#else
#define ROOM(M) ((M) == 1 ? 8 : (M) <= 3 ? 4 : 2)
#endif

/* tile() of one panel of `width` lanes (a multiple of 16), in pieces that fit the registers. */
#define STRIP(M, W)                                                                             \
    for (; ROOM(M) >= (W) && j + (W) * VL <= width; j += (W) * VL)                              \
        NAME(tile)(M, 1, W, a, lda, b + j, 0, ldb, c + j, ldc, 0, K, resume);
#define STRIPS(M)                                                                               \
    case M: {                                                                                   \
        size_t j = 0;                                                                           \
        STRIP(M, 8) STRIP(M, 4) STRIP(M, 2) STRIP(M, 1)                                         \
        break;                                                                                  \
    }
HOT void NAME(panel)(size_t M, const float *a, size_t lda, const float *b, size_t ldb, size_t width,
                     float *c, size_t ldc, size_t K, int resume) {
    switch (M) { STRIPS(1) STRIPS(2) STRIPS(3) STRIPS(4) STRIPS(5) STRIPS(6) }
}

/* tile() of `count` panels of 16 lanes that lie bp apart, as many at a time as fit. */
#define SPAN(M, P)                                                                              \
    for (; ROOM(M) >= (P) * (16 / VL) && p + (P) <= count; p += (P))                            \
        NAME(tile)(M, P, 16 / VL, a, lda, b + p * bp, bp, 16, c + p * 16, ldc, 16, K, resume);
#define SPANS(M)                                                                                \
    case M: {                                                                                   \
        size_t p = 0;                                                                           \
        SPAN(M, 8) SPAN(M, 4) SPAN(M, 2) SPAN(M, 1)                                             \
        break;                                                                                  \
    }
HOT void NAME(panels)(size_t M, const float *a, size_t lda, const float *b, size_t bp, size_t count,
                      float *c, size_t ldc, size_t K, int resume) {
    switch (M) { SPANS(1) SPANS(2) SPANS(3) SPANS(4) SPANS(5) SPANS(6) }
}

/* e ** x for x <= 88, by IEEE operations alone (Cephes' expf); 0 below -87.3. */
INLINE V NAME(exponential)(V x) {
    V z = maximum(all(-87.3f), minimum(all(88.0f), x));
    V magic = all(12582912.0f); /* 1.5 * 2 ** 23: adding it rounds to an integer */
    V shifted = fma_(z, all(1.44269504f), magic);
    V n = sub(shifted, magic);
    V r = fma_(n, all(-0.693359375f), z);
    r = fma_(n, all(2.12194440e-4f), r);
    V p = all(1.9875691500e-4f);
    p = fma_(p, r, all(1.3981999507e-3f));
    p = fma_(p, r, all(8.3334519073e-3f));
    p = fma_(p, r, all(4.1665795894e-2f));
    p = fma_(p, r, all(1.6666665459e-1f));
    p = fma_(p, r, all(5.0000001201e-1f));
    p = fma_(p, mul(r, r), add(r, all(1.0f)));
    return unless_below(x, all(-87.3f), mul(p, power(shifted)));
}

/* Adds or compares 16 lanes in a fixed tree. */
INLINE float NAME(tree_sum)(const V *lanes) {
    float t[16];
    for (int i = 0; i < 16 / VL; i++) store(t + i * VL, lanes[i]);
    for (int half = 8; half; half >>= 1)
        for (int i = 0; i < half; i++) t[i] += t[i + half];
    return t[0];
}
INLINE float NAME(tree_max)(const V *lanes) {
    float t[16];
    for (int i = 0; i < 16 / VL; i++) store(t + i * VL, lanes[i]);
    for (int half = 8; half; half >>= 1)
        for (int i = 0; i < half; i++) t[i] = t[i] > t[i + half] ? t[i] : t[i + half];
    return t[0];
}

/* Rows [m0, m1) of y = x W + bias + residual, for the panels of 16 columns [first, last). Where many
 * rows go by, the inner dimension is cut so that a piece of a panel stays in the first-level cache. */
HOT void NAME(linear_part)(const struct linear *l, size_t m0, size_t m1, size_t first, size_t last) {
    const size_t K = l->inner, N = l->outer, whole = N / 16;
    const size_t together = m1 - m0 <= 3 ? 8 : VL == 16 ? 4 : 1;
    const size_t piece = m1 - m0 > 6 ? 256 : K;
    float edge[6 * 16];
    for (size_t p = first, count; p < last; p += count) {
        const int cut = p >= whole;
        count = cut ? 1 : (last < whole ? last : whole) - p;
        if (count > together) count = together;
        const size_t j0 = p * 16, j1 = cut ? N : j0 + count * 16, ldy = cut ? 16 : N;
        for (size_t k = 0; k < K; k += piece) {
            const size_t depth = K - k < piece ? K - k : piece;
            const float *w = l->weights + j0 * K + k * 16;
            for (size_t m = m0; m < m1; m += 6) {
                const size_t rows = m1 - m < 6 ? m1 - m : 6;
                float *y = cut ? edge : l->y + m * N + j0;
                if (cut && k)
                    for (size_t i = 0; i < rows; i++)
                        memcpy(edge + i * 16, l->y + (m + i) * N + j0, (j1 - j0) * sizeof(float));
                NAME(panels)(rows, l->x + m * l->ldx + k, l->ldx, w, 16 * K, count, y, ldy, depth,
                             k > 0);
                if (cut)
                    for (size_t i = 0; i < rows; i++)
                        memcpy(l->y + (m + i) * N + j0, edge + i * 16, (j1 - j0) * sizeof(float));
            }
        }
        for (size_t m = m0; m < m1 && (l->bias || l->residual); m++) {
            float *y = l->y + m * N;
            if (l->bias)
                for (size_t j = j0; j < j1; j++) y[j] += l->bias[j];
            if (l->residual)
                for (size_t j = j0; j < j1; j++) y[j] = l->residual[m * N + j] + y[j];
        }
    }
}
HOT void NAME(linear)(const struct linear *l, size_t first, size_t last) {
    for (size_t m = 0; m < l->rows; m += 96)
        NAME(linear_part)(l, m, l->rows - m < 96 ? l->rows : m + 96, first, last);
}

/* y = weight * (x / sqrt(mean(x ** 2) + eps)); y may be x. */
HOT void NAME(norm)(const float *x, const float *weight, float *y, size_t size, float eps) {
    V lanes[16 / VL];
    for (int i = 0; i < 16 / VL; i++) lanes[i] = all(0.0f);
    size_t at = 0;
    for (; at + 16 <= size; at += 16)
        for (int i = 0; i < 16 / VL; i++) {
            V v = load(x + at + i * VL);
            lanes[i] = fma_(v, v, lanes[i]);
        }
    if (at < size) {
        float rest[16] = {0};
        memcpy(rest, x + at, (size - at) * sizeof(float));
        for (int i = 0; i < 16 / VL; i++) {
            V v = load(rest + i * VL);
            lanes[i] = fma_(v, v, lanes[i]);
        }
    }
    const float scale = 1.0f / sqrtf(NAME(tree_sum)(lanes) / (float)size + eps);
    for (size_t j = 0; j < size; j++) y[j] = weight[j] * (x[j] * scale);
}

/* y = gate / (1 + e ** -gate) * up */
INLINE V NAME(gated)(V gate, V up) {
    V e = NAME(exponential)(sub(all(0.0f), gate));
    return mul(quotient(gate, add(all(1.0f), e)), up);
}
HOT void NAME(silu_mul)(const float *gate, const float *up, float *y, size_t size) {
    size_t j = 0;
    for (; j + VL <= size; j += VL) store(y + j, NAME(gated)(load(gate + j), load(up + j)));
    if (j < size) {
        float g[VL] = {0}, u[VL] = {0}, r[VL];
        memcpy(g, gate + j, (size - j) * sizeof(float));
        memcpy(u, up + j, (size - j) * sizeof(float));
        store(r, NAME(gated)(load(g), load(u)));
        memcpy(y + j, r, (size - j) * sizeof(float));
    }
}

/* Scores become weights: t[j] = e ** (scale * t[j] - max) for j in [low, high), 0 around them up to
 * the next multiples of 16; returns their sum. */
INLINE float NAME(softmax)(float *t, size_t low, size_t high, float scale) {
    const size_t first = low & ~(size_t)15, end = (high + 15) & ~(size_t)15;
    for (size_t j = first; j < low; j++) t[j] = -INFINITY;
    for (size_t j = high; j < end; j++) t[j] = -INFINITY;
    V lanes[16 / VL];
    for (int i = 0; i < 16 / VL; i++) lanes[i] = all(-INFINITY);
    for (size_t j = first; j < end; j += 16)
        for (int i = 0; i < 16 / VL; i++) {
            V s = mul(load(t + j + i * VL), all(scale));
            store(t + j + i * VL, s);
            lanes[i] = maximum(lanes[i], s);
        }
    const V most = all(NAME(tree_max)(lanes));
    for (int i = 0; i < 16 / VL; i++) lanes[i] = all(0.0f);
    for (size_t j = first; j < end; j += 16)
        for (int i = 0; i < 16 / VL; i++) {
            V e = NAME(exponential)(sub(load(t + j + i * VL), most));
            store(t + j + i * VL, e);
            lanes[i] = add(lanes[i], e);
        }
    return NAME(tree_sum)(lanes);
}

/* A row of queries, keys or values with what belongs to its position: heads of size d, each normed
 * (where there is a weight for it) and turned by its angles, as transformers' rotate_half has it. */
HOT void NAME(turn)(const float *x, size_t heads, size_t d, const float *weight, float eps,
                    const float *cosine, const float *sine, float *y) {
    const size_t half = d / 2;
    for (size_t h = 0; h < heads; h++, x += d, y += d) {
        float normed[MOST_SIZE];
        const float *v = x;
        if (weight) {
            NAME(norm)(x, weight, normed, d, eps);
            v = normed;
        }
        for (size_t j = 0; j < half; j++) {
            y[j] = v[j] * cosine[j] - v[j + half] * sine[j];
            y[j + half] = v[j + half] * cosine[j + half] + v[j] * sine[j + half];
        }
    }
}

/* Queries [t0, t1) of a piece and all the heads that share key head g. Query t is at position
 * start + t and sees the positions [low, high) of its sequence, high = start + t + 1 and low = 0 or
 * what the window leaves. `scratch` holds queries, scores and sums (see exact_attend). */
HOT void NAME(attend)(const struct attention *a, const struct piece *piece, size_t g, size_t t0,
                      size_t t1, float *scratch) {
    const size_t share = a->heads / a->key_heads, d = a->key_size, dv = a->value_size;
    const size_t dvp = (dv + 15) & ~(size_t)15, rows = (t1 - t0) * share, offset = piece->offset;
    const size_t high = piece->start + t1;
    const size_t low = visible_from(a->window, piece->start + t0), base = low & ~(size_t)15;
    const size_t room = score_room(high - base);
    float *q = scratch, *scores = q + rows * d, *sums = scores + rows * room;
    float *total = sums + rows * dvp;
    for (size_t r = 0; r < rows; r++) {
        const size_t t = piece->row + t0 + r / share, h = g * share + r % share;
        memcpy(q + r * d, a->q + t * a->q_row + h * a->q_head, d * sizeof(float));
    }
    /* Blocks of keys begin at multiples of 16 of the pool, positions at the sequence's offset. */
    const size_t b0 = (offset + low) >> 4, b1 = (offset + high + 15) >> 4;
    const float *keys = a->keys + (g * a->blocks + b0) * 16 * d;
    float *first = scores + 16 + b0 * 16 - offset - base;
    for (size_t b = b0; b < b1; b += 8) {
        const size_t count = b1 - b < 8 ? b1 - b : 8;
        for (size_t r = 0; r < rows; r += 6)
            NAME(panels)(rows - r < 6 ? rows - r : 6, q + r * d, d, keys + (b - b0) * 16 * d,
                         16 * d, count, first + r * room + (b - b0) * 16, room, d, 0);
    }
    for (size_t r = 0; r < rows; r++) {
        const size_t at = piece->start + t0 + r / share;
        total[r] = NAME(softmax)(scores + 16 + r * room, visible_from(a->window, at) - base,
                                 at + 1 - base, a->scale);
    }
    /* Values are read 16 at a time: beyond a row's end lies the next row, which is left out below. */
    const float *values = a->values + (g * a->blocks * 16 + offset) * dv;
    const float *weights = scores + 16;
#define CHAIN(r, count, from, to, resume)                                                       \
    NAME(panel)(count, weights + (r) * room + (from) - base, room, values + (from) * dv, dv,    \
                dvp, sums + (r) * dvp, dvp, (to) - (from), resume)
    for (size_t r = 0; r < rows; r += 6) {
        const size_t end = rows - r < 6 ? rows : r + 6;
        /* What all rows see: [common, until); each sees some positions more before and after. */
        const size_t common = visible_from(a->window, piece->start + t0 + (end - 1) / share);
        const size_t until = piece->start + t0 + r / share + 1;
        if (common >= until) {
            for (size_t i = r; i < end; i++) {
                const size_t at = piece->start + t0 + i / share;
                CHAIN(i, 1, visible_from(a->window, at), at + 1, 0);
            }
            continue;
        }
        for (size_t i = r; i < end; i++) {
            const size_t from = visible_from(a->window, piece->start + t0 + i / share);
            CHAIN(i, 1, from, common, 0);
        }
        CHAIN(r, end - r, common, until, 1);
        for (size_t i = r; i < end; i++) {
            const size_t at = piece->start + t0 + i / share;
            if (at + 1 > until) CHAIN(i, 1, until, at + 1, 1);
        }
    }
#undef CHAIN
    for (size_t r = 0; r < rows; r++) {
        const size_t t = piece->row + t0 + r / share, h = g * share + r % share;
        float *out = a->out + (t * a->heads + h) * dv;
        const float inverse = 1.0f / total[r];
        for (size_t j = 0; j < dv; j++) out[j] = sums[r * dvp + j] * inverse;
    }
}

#undef load
#undef store
#undef all
#undef fma_
#undef add
#undef sub
#undef mul
#undef quotient
#undef maximum
#undef minimum
#undef power
#undef unless_below
#undef ROOM
#undef STRIP
#undef STRIPS
#undef SPAN
#undef SPANS
#undef VL
#undef V
