/* Vectors of floats for one instruction set. Included once for each, with ISA_* defined.
 *
 * Every operation is an IEEE one on each lane, so all instruction sets give the same bits; a vector's
 * width (VL) never shows in a result. maximum(a, b) is a > b ? a : b everywhere, also where one is a
 * NaN: then it is b. minimum likewise.
 */
#if ISA_AVX512
#define VL 16
typedef __m512 NAME(V);
#define V NAME(V)
INLINE V NAME(load)(const float *p) { return _mm512_loadu_ps(p); }
INLINE void NAME(store)(float *p, V a) { _mm512_storeu_ps(p, a); }
INLINE V NAME(all)(float a) { return _mm512_set1_ps(a); }
INLINE V NAME(fma)(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
INLINE V NAME(add)(V a, V b) { return _mm512_add_ps(a, b); }
INLINE V NAME(sub)(V a, V b) { return _mm512_sub_ps(a, b); }
INLINE V NAME(mul)(V a, V b) { return _mm512_mul_ps(a, b); }
INLINE V NAME(quotient)(V a, V b) { return _mm512_div_ps(a, b); }
INLINE V NAME(maximum)(V a, V b) { return _mm512_max_ps(a, b); }
INLINE V NAME(minimum)(V a, V b) { return _mm512_min_ps(a, b); }
/* 2 ** n, where a = n + 1.5 * 2 ** 23 and -126 <= n <= 127 */
INLINE V NAME(power)(V a) {
    __m512i n = _mm512_add_epi32(_mm512_castps_si512(a), _mm512_set1_epi32(127));
    return _mm512_castsi512_ps(_mm512_slli_epi32(n, 23));
}
/* x < least ? 0 : a */
INLINE V NAME(unless_below)(V x, V least, V a) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, least, _CMP_NLT_UQ), a);
}
#elif ISA_AVX2
#define VL 8
typedef __m256 NAME(V);
#define V NAME(V)
INLINE V NAME(load)(const float *p) { return _mm256_loadu_ps(p); }
INLINE void NAME(store)(float *p, V a) { _mm256_storeu_ps(p, a); }
INLINE V NAME(all)(float a) { return _mm256_set1_ps(a); }
INLINE V NAME(fma)(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
INLINE V NAME(add)(V a, V b) { return _mm256_add_ps(a, b); }
INLINE V NAME(sub)(V a, V b) { return _mm256_sub_ps(a, b); }
INLINE V NAME(mul)(V a, V b) { return _mm256_mul_ps(a, b); }
INLINE V NAME(quotient)(V a, V b) { return _mm256_div_ps(a, b); }
INLINE V NAME(maximum)(V a, V b) { return _mm256_max_ps(a, b); }
INLINE V NAME(minimum)(V a, V b) { return _mm256_min_ps(a, b); }
INLINE V NAME(power)(V a) {
    __m256i n = _mm256_add_epi32(_mm256_castps_si256(a), _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(n, 23));
}
INLINE V NAME(unless_below)(V x, V least, V a) {
    return _mm256_and_ps(_mm256_cmp_ps(x, least, _CMP_NLT_UQ), a);
}
#else /* plain C; a compiler with fused multiply-add makes vectors of these loops */
#define VL 8
typedef struct { float f[VL]; } NAME(V);
#define V NAME(V)
#define EACH for (int i = 0; i < VL; i++)
INLINE V NAME(load)(const float *p) { V r; EACH r.f[i] = p[i]; return r; }
INLINE void NAME(store)(float *p, V a) { EACH p[i] = a.f[i]; }
INLINE V NAME(all)(float a) { V r; EACH r.f[i] = a; return r; }
INLINE V NAME(fma)(V a, V b, V c) { V r; EACH r.f[i] = fmaf(a.f[i], b.f[i], c.f[i]); return r; }
INLINE V NAME(add)(V a, V b) { V r; EACH r.f[i] = a.f[i] + b.f[i]; return r; }
INLINE V NAME(sub)(V a, V b) { V r; EACH r.f[i] = a.f[i] - b.f[i]; return r; }
INLINE V NAME(mul)(V a, V b) { V r; EACH r.f[i] = a.f[i] * b.f[i]; return r; }
INLINE V NAME(quotient)(V a, V b) { V r; EACH r.f[i] = a.f[i] / b.f[i]; return r; }
INLINE V NAME(maximum)(V a, V b) { V r; EACH r.f[i] = a.f[i] > b.f[i] ? a.f[i] : b.f[i]; return r; }
INLINE V NAME(minimum)(V a, V b) { V r; EACH r.f[i] = a.f[i] < b.f[i] ? a.f[i] : b.f[i]; return r; }
INLINE V NAME(power)(V a) {
    V r;
    for (int i = 0; i < VL; i++) {
        uint32_t n;
        memcpy(&n, &a.f[i], 4);
        n = (n + 127u) << 23;
        memcpy(&r.f[i], &n, 4);
    }
    return r;
}
INLINE V NAME(unless_below)(V x, V least, V a) {
    V r;
    EACH r.f[i] = x.f[i] < least.f[i] ? 0.0f : a.f[i];
    return r;
}
#undef EACH
#endif

#define load NAME(load)
#define store NAME(store)
#define all NAME(all)
#define fma_ NAME(fma)
#define add NAME(add)
#define sub NAME(sub)
#define mul NAME(mul)
#define quotient NAME(quotient)
#define maximum NAME(maximum)
#define minimum NAME(minimum)
#define power NAME(power)
#define unless_below NAME(unless_below)
