"""Top-k and top-p over a large vocabulary, looking closely at few tokens.

Both give exactly what sorting everything would: order by logit (ties: lower id first), then cut.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

_GROUP = 64
_APPROXIMATE = 1e-4  # relative error allowed for a sum of float32 exponentials (it is some 1e-6)
_SUMMING = 1e-11  # and for a sum of float64 ones, in whatever order
_PLAIN = 1e-6  # so close to 1, top_p keeps so much that nothing is saved

Logits: TypeAlias = npt.NDArray[np.float32]
Places: TypeAlias = npt.NDArray[np.int64]


def largest(values: Logits, count: int) -> Places:
    """Places of the `count` largest of values [n], count < n, by falling value; ties as above.

    The maxima of n / 64 groups are looked at first: at least `count` values are not below the
    `count`-th largest of those, so nothing below it matters.
    """
    groups = values.size // _GROUP
    places: Places | None = None
    if count <= groups:
        maxima = values[: groups * _GROUP].reshape(_GROUP, groups).max(axis=0)
        bound = np.partition(maxima, groups - count)[groups - count]
        places = np.flatnonzero(values >= bound)
        values = values[places]
    if values.size > 4 * count:
        cutoff = np.partition(values, values.size - count)[values.size - count]
        kept = np.flatnonzero(values >= cutoff)
        places, values = kept if places is None else places[kept], values[kept]
    order = _by_logit(values)[:count]
    return order if places is None else places[order]


def nucleus(values: Logits, temperature: float, top_p: float) -> Places:
    """Places of the shortest prefix, by falling value, that holds `top_p` of the probability of
    finite values [n] at `temperature` > 0.

    Only tokens that hold (1 - top_p) / n of it each can be in that prefix, so others need no exact
    weight: their sum in float32 settles where the cut is, unless it falls within its error.
    """
    if 1.0 - top_p < _PLAIN:
        return _sorted_nucleus(values, temperature, top_p)
    with np.errstate(over="ignore"):
        rough = np.exp((values - values.max()) * np.float32(1.0 / temperature))
    about = float(rough.sum(dtype=np.float64))
    kept = np.flatnonzero(rough >= np.float32(0.99 * (1.0 - top_p) * about / values.size))
    kept = kept[_by_logit(values[kept])]
    cumulative = np.cumsum(_weights(values[kept], values[kept[0]], temperature))
    rest = max(about - float(rough[kept].sum(dtype=np.float64)), 0.0)
    total = float(cumulative[-1]) + rest
    error = _APPROXIMATE * rest + _SUMMING * total
    first, last = (
        int(np.searchsorted(cumulative, top_p * bound)) for bound in (total - error, total + error)
    )
    if first != last or last >= kept.size:
        return _sorted_nucleus(values, temperature, top_p)
    return kept[: first + 1]


def _sorted_nucleus(values: Logits, temperature: float, top_p: float) -> Places:
    """The definition: every weight in float64."""
    weights = _weights(values, values.max(), temperature)
    total = float(weights.sum())
    # Tokens below this weight hold less than (1 - top_p) together: no sort needs them.
    kept = np.flatnonzero(weights >= (1.0 - top_p) * total / values.size)
    kept = kept[_by_logit(values[kept])]
    cumulative = np.cumsum(weights[kept])
    return kept[: int(np.searchsorted(cumulative, top_p * total)) + 1]


def _weights(values: Logits, top: np.float32, temperature: float) -> npt.NDArray[np.float64]:
    weights: npt.NDArray[np.float64] = np.exp(
        (values.astype(np.float64) - float(top)) / temperature
    )
    return weights


def _by_logit(values: Logits) -> Places:
    """Order by falling value; equal values stay in order."""
    return np.argsort(-values, kind="stable")
