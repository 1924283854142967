/* Bounds for the contest of proofs.sampling.gumbel_max: what no token's score exceeds.

   For every block of four tokens in which one can win, the counter's noise is drawn (Philox-4x32-10,
   as proofs/sampling/philox.py says) and its bound is made by step 2 of that module. Rounding needs
   no care here: the caller leaves room for it, and scores what is close in float64. */

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <math.h>

/* Counters that are drawn together, so that the compiler has whole vectors. */
#define LANES 8

typedef uint64_t wide __attribute__((vector_size(8 * LANES)));

/* The top 24 bits of four words for each of LANES counters (block, position, 0, 0). */
static inline __attribute__((always_inline)) void draw(const uint32_t *block, uint32_t position,
                                                       uint64_t key, uint32_t *out)
{
    const wide low = (wide){0} + 0xFFFFFFFFu;
    wide c0, c1 = (wide){0} + position, c2 = {0}, c3 = {0};
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int i = 0; i < LANES; i++)
        c0[i] = block[i];
    for (int round = 0; round < 10; round++) {
        wide left = (c0 & low) * 0xD2511F53u, right = (c2 & low) * 0xCD9E8D57u;
        c0 = (right >> 32) ^ c1 ^ k0;
        c2 = (left >> 32) ^ c3 ^ k1;
        c1 = right & low;
        c3 = left & low;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int i = 0; i < LANES; i++) {
        out[4 * i] = (uint32_t)c0[i] >> 8;
        out[4 * i + 1] = (uint32_t)c1[i] >> 8;
        out[4 * i + 2] = (uint32_t)c2[i] >> 8;
        out[4 * i + 3] = (uint32_t)c3[i] >> 8;
    }
}

/* `logits` [count], count a multiple of 4; `bounds` and `bits` [count]. Tokens of blocks of which none
   is within `floor` (not above 0) of the largest logit get -inf, and their bits are left alone. */
void contest_bounds(const float *logits, size_t count, float largest, float floor,
                           float scale, uint64_t key, uint32_t position, float *bounds,
                           uint32_t *bits)
{
    uint32_t waiting[LANES], drawn[4 * LANES];
    size_t blocks = count / 4, held = 0;
    for (size_t b = 0; b <= blocks; b++) {
        if (b < blocks) {
            const float *four = logits + 4 * b;
            float most = fmaxf(fmaxf(four[0], four[1]), fmaxf(four[2], four[3]));
            if (most - largest < floor) {
                for (int i = 0; i < 4; i++)
                    bounds[4 * b + i] = -INFINITY;
                continue;
            }
            waiting[held++] = (uint32_t)b;
            if (held < LANES)
                continue;
        }
        for (size_t i = held; i < LANES; i++)
            waiting[i] = 0;
        draw(waiting, position, key, drawn);
        for (size_t i = 0; i < held; i++) {
            size_t at = 4 * (size_t)waiting[i];
            for (int j = 0; j < 4; j++) {
                uint32_t x = drawn[4 * i + j];
                float twice_y = (float)(int32_t)(((1u << 25) - 1) - (x << 1));
                int32_t word;
                memcpy(&word, &twice_y, sizeof word);
                bits[at + j] = x;
                bounds[at + j] = (logits[at + j] - largest) * scale - (float)word;
            }
        }
        held = 0;
    }
}
