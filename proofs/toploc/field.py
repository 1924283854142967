"""Vectorised polynomials over GF(65497).

65497 is a prime above every bfloat16 bit pattern that is not a NaN. A TOPLOC proof is the
polynomial of degree < k through k points, in monomial form. The textbook way (Newton's divided
differences) has a chain of k dependent steps, which numpy runs slowly; here every step works on
whole matrices and on many polynomials at once:

    c(X) = sum_i w_i * P(X) / (X - x_i),   P(X) = prod_i (X - x_i),   w_i = y_i / P'(x_i)

Dividing P by (X - x_i) gives coefficients sum_l P[j+1+l] * x_i^l, so with the power sums
S_l = sum_i w_i x_i^l the answer is the correlation c_j = sum_l P[j+1+l] * S_l.

All arrays are int64. A product of two reduced elements is below 2**32, so sums of up to 2**31 of
them are exact. Inverses come from a table.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from proofs.errors import ProofError

PRIME = 65497

Ints: TypeAlias = npt.NDArray[np.int64]


class DuplicatePointError(ProofError):
    """Two points of one polynomial share an x; choose a modulus that keeps them apart."""


def reduce(values: Ints) -> Ints:
    """`values` mod PRIME, for values >= 0; numpy divides by a constant faster than by `%`."""
    return values - (values // PRIME) * PRIME


def _inverse_table() -> Ints:
    """Inverses of 0..PRIME-1 (that of 0 is 0), by powers of a generator: g^-e = g^(PRIME-1-e)."""
    factors = (2, 3, 2729)  # the primes that divide PRIME - 1 = 2**3 * 3 * 2729
    generator = next(
        g for g in range(2, PRIME) if all(pow(g, (PRIME - 1) // q, PRIME) != 1 for q in factors)
    )
    powers = powers_of(np.array([generator], dtype=np.int64), PRIME - 1)[0]
    table = np.zeros(PRIME, dtype=np.int64)
    table[powers[1:]] = powers[1:][::-1]
    table[1] = 1
    return table


def powers_of(x: Ints, count: int) -> Ints:
    """`x[...]` to the powers 0..count-1, shape `x.shape + (count,)`, by doubling."""
    out = np.ones((*x.shape, count), dtype=np.int64)
    step, size = x[..., None], 1
    while size < count:
        width = min(size, count - size)
        out[..., size : size + width] = reduce(out[..., :width] * step)
        step, size = reduce(step * step), size * 2
    return out


INVERSE = _inverse_table()
INVERSE.setflags(write=False)


def evaluate(coefficients: Ints, x: Ints) -> Ints:
    """Values of B polynomials, coefficients [B, k] ascending, at x [B, n] -> [B, n]."""
    powers = powers_of(x, coefficients.shape[-1])
    return reduce(np.matmul(powers, coefficients[:, :, None])[:, :, 0])


def interpolate(x: Ints, y: Ints) -> Ints:
    """Ascending coefficients [B, k] of the polynomials through (x, y), both [B, k] in 0..PRIME-1.

    Raises DuplicatePointError where a row of x repeats a value.
    """
    k = x.shape[1]
    differences = reduce(x[:, :, None] - x[:, None, :] + PRIME)
    differences[:, np.arange(k), np.arange(k)] = 1
    derivative = _product(differences)
    if not derivative.all():
        raise DuplicatePointError("two points share an x; choose a modulus that is injective")
    weights = reduce(y * INVERSE[derivative])
    sums = reduce(np.matmul(weights[:, None, :], powers_of(x, k))[:, 0, :])
    monic = _from_roots(x)
    padded = np.concatenate([monic[:, 1:], np.zeros((len(x), k - 1), dtype=np.int64)], axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, k, axis=1)
    return reduce(np.matmul(windows, sums[:, :, None])[:, :, 0])


def _product(factors: Ints) -> Ints:
    """Product over the last axis, by halves."""
    while (n := factors.shape[-1]) > 1:
        half = n // 2
        paired = reduce(factors[..., :half] * factors[..., half : 2 * half])
        factors = np.concatenate([paired, factors[..., 2 * half :]], axis=-1) if n % 2 else paired
    return factors[..., 0]


def _from_roots(x: Ints) -> Ints:
    """Coefficients [B, k+1] of prod_i (X - x_i), by a product tree padded with the constant 1."""
    batch, k = x.shape
    size = 1 << (k - 1).bit_length()
    level = np.zeros((batch, size, 2), dtype=np.int64)
    level[:, :, 0] = 1
    level[:, :k, 0] = reduce(PRIME - x)
    level[:, :k, 1] = 1
    while level.shape[1] > 1:
        left, right = level[:, 0::2], level[:, 1::2, ::-1]
        width = left.shape[2]
        padded = np.zeros((batch, left.shape[1], 3 * width - 2), dtype=np.int64)
        padded[:, :, width - 1 : 2 * width - 1] = left
        windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=2)
        level = reduce(np.matmul(windows, right[:, :, :, None])[..., 0])
    return level[:, 0, : k + 1]
