"""How much of a worker's output is replayed, and which of it.

**How much.** A unit is paid as a whole or not at all, has n sequences, and each is replayed with
probability r. Two ways of cheating are to lose money *in every single unit*, so that no mixture of
them with honest work gains anything, however long it goes on and whenever it stops:

- *Cheaper arithmetic* saves `saved` of the unit's pay. A replay finds it with probability `power`,
  and finding it only puts the worker in doubt: the unit is not paid, and nothing is slashed. With
  d = power · (1 - (1 - r)^n) that deters where

      d >= margin · saved.

  In fewer sequences of the unit it saves less in proportion, and is found more often than that.
- *Forging* whatever is not replayed saves all of the pay. A replay finds it with probability
  `forged_power`, and convicts. Verdicts come late, and a provider's nodes can forge side by side:
  `open` units may be under way when the first one is found, and a conviction takes `loss` once for
  all of them. With d = forged_power · (1 - (1 - r)^n) and D = 1 - (1 - d)^open that deters where

      loss · D + open · pay · d >= margin · open · pay.

  With little to lose no rate below 1 does, and everything is replayed.

So doubt costs the pay of the unit in doubt, which is enough at these rates; it takes no pay of
other units, since a unit's pay is its whole ring's and neighbours have done nothing. Misses of one
unit may have one cause for all its sequences, so `power` counts once. What a replay cannot see is
not deterred. Rates are whole 65536ths. `check_rate` finds the least that holds by halving over
whole numbers, with fixed-point powers, so all who know the same figures come to the same rate,
whatever their floating point does.

**Which.** A sequence is chosen where a hash of the beacon, the unit and the sequence's number lies
below the rate. For the unit stands its id with the commitments to all stages' evidence
(`proofs.evidence.bundle.UnitBundle.draw_id`) and nothing else: no signature, which its signer can
make anew as often as it likes, and no word of whoever assembles the bundle. The beacon is the hash
of block `committed_at` + `DRAW_DELAY`; at `committed_at` all workers had signed. One block more
than the next is waited for, because a worker may see a block before the endpoint that names
`committed_at` does. So no worker could know the choice when it committed itself, and anybody can
repeat it. Whoever assembles the bundle names the block (at most `MAX_AGE` back), so this is no
protection against a pool's owner that cheats.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from fractions import Fraction

from proofs.encoding.signing import tagged_hash
from proofs.errors import ProofError

ONE = 1 << 16
"""The rate that replays everything."""
MAX_AGE = 8
"""Blocks that a bundle may lie between its commitment and a validator."""
DRAW_DELAY = 2
"""Blocks from the commitment to the one that decides."""
MAX_COUNT = 1 << 16
_DOMAIN = "spot-check/2"
_FIXED = 1 << 32


class SpotCheckError(ProofError):
    """A figure outside its range; the message names it."""


@dataclass(frozen=True)
class CheckTerms:
    """`saved` is the share of its pay that cheaper arithmetic saves, `power` and `forged_power` the
    probabilities that a replay finds that, or forged work; `margin` how many times the gain the
    loss must be. A worker has at most 1 + `late` units under way or not judged. No rate is below
    `floor` (65536ths). The first `probation` units of a worker are replayed whole.

    int4 weights save less than half of the work. Units of four sequences come to 1/4 with enough
    stake, units of sixteen to 1/8.
    """

    saved: Fraction = Fraction(1, 2)
    power: Fraction = Fraction(9, 10)
    forged_power: Fraction = Fraction(99, 100)
    margin: Fraction = Fraction(6, 5)
    late: int = 3
    floor: int = ONE // 16
    probation: int = 32

    def __post_init__(self) -> None:
        if not (0 <= self.saved <= 1 and self.margin >= 0):
            raise SpotCheckError("saved is 0 to 1, margin not negative")
        if not (0 < self.power <= 1 and 0 < self.forged_power <= 1):
            raise SpotCheckError("power and forged_power are above 0 to 1")
        if not (0 <= self.floor <= ONE and self.probation >= 0 and self.late >= 0):
            raise SpotCheckError(f"floor is 0 to {ONE}, probation and late are not negative")


DEFAULT_TERMS = CheckTerms()


def check_rate(
    pay: int,
    loss: int,
    sequences: int,
    verified: int,
    nodes: int = 1,
    terms: CheckTerms = DEFAULT_TERMS,
) -> int:
    """The share of sequences to replay, in 65536ths.

    `pay` (wei) is what a provider gets for one unit of `sequences`, `loss` (wei) what it loses at
    least where one of its `nodes` is convicted: what of its stake would be slashed. `verified`
    counts the worker's checked units without a fault. Raises SpotCheckError for amounts below 0, no
    sequences or no nodes.
    """
    if min(pay, loss, verified) < 0:
        raise SpotCheckError("amounts and counts are not negative")
    if not 1 <= sequences <= MAX_COUNT or nodes < 1:
        raise SpotCheckError(f"{sequences} sequences, 1 to {MAX_COUNT}; {nodes} nodes, at least 1")
    if verified < terms.probation:
        return ONE
    low, high = terms.floor, ONE  # the answer lies within; `high` is what nothing less satisfies
    while low < high:
        middle = (low + high) // 2
        if deters(middle, pay, loss, sequences, nodes, terms):
            high = middle
        else:
            low = middle + 1
    return low


def deters(
    rate: int,
    pay: int,
    loss: int,
    sequences: int,
    nodes: int = 1,
    terms: CheckTerms = DEFAULT_TERMS,
) -> bool:
    """Whether each cheated unit loses at least `margin` times what it gains, at this rate."""
    if pay == 0:
        return True
    seen = _FIXED - _power((ONE - rate) * (_FIXED // ONE), sequences)
    if Fraction(seen, _FIXED) * terms.power < terms.margin * terms.saved:
        return False
    count = nodes * (1 + terms.late)
    found = int(seen * terms.forged_power)
    ever = _FIXED - _power(_FIXED - found, count)
    return loss * ever + count * pay * found >= terms.margin * count * pay * _FIXED


def _power(base: int, exponent: int) -> int:
    """`base` to a power, both in `_FIXED` parts of 1, rounded up; it rises with its base."""
    result = _FIXED
    while exponent:
        if exponent & 1:
            result = -(-result * base // _FIXED)
        base = -(-base * base // _FIXED)
        exponent >>= 1
    return result


def rate_of(share: float) -> int:
    """A share of 0 to 1 as the next higher rate. Raises SpotCheckError."""
    if not 0.0 <= share <= 1.0:
        raise SpotCheckError(f"a share is 0 to 1, not {share}")
    return -int(-Fraction(share) * ONE // 1)


def may_choose(committed_at: int, seen_at: int, max_age: int = MAX_AGE) -> bool:
    """Whether a choice may be made at all: the bundle names a commitment, and reached the
    validator, at block `seen_at`, at most `max_age` blocks later. A commitment from the future is
    the word of an endpoint that is ahead, by as much."""
    return committed_at > 0 and abs(seen_at - committed_at) <= max_age


def chosen(beacon: bytes, draw_id: bytes, count: int, rate: int) -> tuple[int, ...]:
    """The numbers of the sequences to replay, of `count`; there may be none.

    Each is chosen by itself, with probability rate / 65536. Raises SpotCheckError.
    """
    if len(beacon) != 32 or len(draw_id) != 32:
        raise SpotCheckError("a beacon and what it chooses from have 32 bytes")
    if not (0 <= count <= MAX_COUNT and 0 <= rate <= ONE):
        raise SpotCheckError(f"count {count} or rate {rate} is out of range")
    return tuple(n for n in range(count) if _draw(beacon, draw_id, n) < rate)


def _draw(beacon: bytes, draw_id: bytes, number: int) -> int:
    """A whole number of 0 to 65535."""
    digest = tagged_hash(_DOMAIN, beacon + draw_id + struct.pack(">I", number))
    return int.from_bytes(digest[:2], "big")
