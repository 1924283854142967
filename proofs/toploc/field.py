"""Polynomials over GF(65497), many at a time, by a few matrix products each.

65497 is a prime above every bfloat16 bit pattern that is not a NaN. A TOPLOC proof is the
polynomial of degree < k through k points, in monomial form.

`evaluate` is Horner's rule in steps of 16 coefficients: with the powers x^0 .. x^15 of every
element in a table, all blocks of 16 coefficients are one matrix product, and their values are the
coefficients of a polynomial in x^16.

`interpolate` avoids the textbook way (Newton's divided differences), a chain of k dependent steps.
It takes the polynomial's values at k fixed points t_j = -(j + 1), j < k, which no index below
65497 - k ever is,

    c(t_j) = P(t_j) * sum_i y_i / P'(x_i) / (t_j - x_i),  P(X) = prod_i (X - x_i)

and from them the monomials by one constant matrix (Lagrange's basis at t). As t is a run of
neighbours, the matrix 1 / (x_i - t_j) = 1 / (x_i + 1 + j) has as its rows windows of the table of
inverses: copied, never computed. Products are sums of discrete logarithms. An x_i that happens to
be a t_j takes its value from y_i.

Sums of products are float64, which BLAS does fast and exactly here: every partial sum is an integer
below 2**53.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from proofs.errors import ProofError

PRIME = 65497
ORDER = PRIME - 1  # of the multiplicative group
MAX_POINTS = 2048
STEP = 16
EXACT = 8  # (STEP * PRIME * PRIME / 2) * (PRIME / 2) * 8 is below 2**53

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)


class DuplicatePointError(ProofError):
    """Two points of one polynomial share an x; choose a modulus that keeps them apart."""


def _powers_of_generator() -> Ints:
    """g**0 .. g**(ORDER - 1) for the least generator g of the group, by doubling."""
    factors = (2, 3, 2729)  # the primes that divide ORDER = 2**3 * 3 * 2729
    generator = next(
        g for g in range(2, PRIME) if all(pow(g, ORDER // q, PRIME) != 1 for q in factors)
    )
    out = np.ones(ORDER, dtype=np.int64)
    size = 1
    while size < ORDER:
        width = min(size, ORDER - size)
        out[size : size + width] = out[:width] * pow(generator, size, PRIME) % PRIME
        size *= 2
    return out


def _wrapped(table: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
    """A table of 0..PRIME-1 continued so that a window of MAX_POINTS fits after each of them."""
    longer = np.concatenate([table, table[: MAX_POINTS + 1]])
    longer.setflags(write=False)
    return longer


_POWERS = _powers_of_generator()
_EXP: Floats = _POWERS.astype(np.float64)
_LOG = np.zeros(PRIME, dtype=np.int32)  # that of 0 is 0: products leave out a factor of zero
_LOG[_POWERS] = np.arange(ORDER)
INVERSE = np.zeros(PRIME, dtype=np.float64)  # that of 0 is 0
INVERSE[_POWERS] = np.roll(_POWERS[::-1], 1)
_LOG_RUN = _wrapped(_LOG)
_INVERSE_RUN = _wrapped(INVERSE)


@lru_cache(maxsize=1)
def _powers_of_all() -> tuple[npt.NDArray[np.int16], Ints]:
    """x**0 .. x**15 of every x [PRIME, 16], and x**16 [PRIME]: 3 MB, for those who evaluate.

    The powers are between -PRIME / 2 and PRIME / 2: 16 bits, because a proof's points lie anywhere
    in the table, and what is read of it should come from a cache.
    """
    x = np.arange(PRIME)
    table, power = np.empty((PRIME, STEP), dtype=np.int16), np.ones(PRIME, dtype=np.int64)
    for column in range(STEP):
        table[:, column] = np.where(power > PRIME // 2, power - PRIME, power)
        power = power * x % PRIME
    return table, power


def evaluate(coefficients: Ints | Floats, x: Ints) -> Ints:
    """Values [B, n] of B polynomials, coefficients [B, k] ascending, at x [B, n].

    Coefficients and x are in 0..PRIME-1.
    """
    table, next_x = _powers_of_all()
    blocks = _padded(coefficients).reshape(len(coefficients), -1, STEP)
    powers = table.take(x, axis=0).swapaxes(1, 2)
    values: Floats = np.matmul(blocks, powers.astype(np.float64))  # [B, blocks, n]
    while (count := values.shape[1]) > 1:
        if count > EXACT:
            values -= np.rint(values * (1 / PRIME)) * PRIME
        x = next_x.take(x)
        powers = table.take(x, axis=0).swapaxes(1, 2)
        if count <= STEP:
            values = np.add.reduce(values * powers[:, :count], axis=1, keepdims=True)
        else:
            nested = _padded(values).reshape(len(values), -1, STEP, x.shape[1])
            values = np.add.reduce(nested * powers[:, None], axis=2)
    reduced: Ints = values[:, 0].astype(np.int64) % PRIME
    return reduced


def _padded(values: Ints | Floats) -> Floats:
    """Floats, with zeros after the end of axis 1 up to a multiple of STEP."""
    floats: Floats = values.astype(np.float64, copy=False)
    if missing := -floats.shape[1] % STEP:
        zeros = np.zeros((len(floats), missing, *floats.shape[2:]))
        return np.concatenate([floats, zeros], axis=1)
    return floats


class _Basis:
    """What all interpolations of `k` points share.

    `to_monomials` [k, k] takes values at t to coefficients, both as row vectors. Row x of
    `inverse_rows` is 1 / (x - t_j) and of `log_rows` log(x - t_j), j < k.
    """

    def __init__(self, k: int) -> None:
        t = PRIME - 1 - np.arange(k)
        gaps = np.add.reduce(_LOG[t[:, None] - t], axis=1, dtype=np.int32)
        monic = np.zeros(k + 1)  # T(X) = prod_j (X - t_j)
        monic[0] = 1
        for size, root in enumerate(t.tolist(), 1):
            shifted = np.concatenate([[0], monic[:size]])
            monic[: size + 1] = (shifted + (PRIME - root) * monic[: size + 1]) % PRIME
        quotient = np.empty((k, k))  # row j: T(X) / (X - t_j), by synthetic division
        quotient[:, k - 1] = 1
        for degree in range(k - 1, 0, -1):
            quotient[:, degree - 1] = (monic[degree] + t * quotient[:, degree]) % PRIME
        self.to_monomials: Floats = _EXP[-gaps % ORDER][:, None] * quotient % PRIME
        self.inverse_rows = np.lib.stride_tricks.sliding_window_view(_INVERSE_RUN[1:], k)
        self.log_rows = np.lib.stride_tricks.sliding_window_view(_LOG_RUN[1:], k)


_basis = lru_cache(maxsize=4)(_Basis)  # one k is in use, and a smaller one for chunks of few values


def interpolate(x: Ints, y: Ints) -> Ints:
    """Ascending coefficients [B, k] of the polynomials through (x, y), both [B, k] in 0..PRIME-1.

    k is at most MAX_POINTS. Raises DuplicatePointError where a row of x repeats a value.
    """
    k = x.shape[1]
    ordered = np.sort(x, axis=1)
    if (ordered[:, 1:] == ordered[:, :-1]).any():
        raise DuplicatePointError("two points share an x; choose a modulus that is injective")
    basis = _basis(k)
    derivative = np.add.reduce(_LOG[x[:, :, None] - x[:, None, :]], axis=2, dtype=np.int32)
    weights = y * _EXP[-derivative % ORDER] % PRIME
    sums = np.matmul(weights[:, None, :], basis.inverse_rows[x])[:, 0, :] % PRIME
    product = np.add.reduce(basis.log_rows[x], axis=1, dtype=np.int32)
    # t_j - x_i = -(x_i + 1 + j): k signs in the product and one in the sum; ORDER // 2 is log(-1)
    at_t = sums * _EXP[(product + (k + 1) % 2 * (ORDER // 2)) % ORDER] % PRIME
    polynomials, points = (x >= PRIME - k).nonzero()
    if len(polynomials):
        at_t[polynomials, PRIME - 1 - x[polynomials, points]] = y[polynomials, points]
    coefficients: Floats = np.matmul(at_t, basis.to_monomials) % PRIME
    return coefficients.astype(np.int64)
