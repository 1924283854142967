"""How much of a worker's output is replayed, and which of it.

**How much.** A worker that cheats in a unit saves `gain` = saved · pay (compute that it was paid
for and did not do). A unit has n sequences; each is replayed with probability r, and a replay finds
a cheat with probability `power`. The worst case for us is a cheat in all of them at once: it earns
n times as much as a cheat in one, and is found less than n times as often. Misses may have one
cause for all sequences, so a cheated unit is found with probability at least

    d = power · (1 - (1 - r)^n).

Whoever cheats until it is caught cheats in 1/d units on average, and loses `loss` once. Stopping
earlier changes nothing: cheating in at most m units costs loss · (1 - (1-d)^m) on average and gains
gain · (1 - (1-d)^m) / d, so the ratio of the two is loss · d / gain whatever m is. Deterrence with
a safety margin therefore is

    loss · d >= margin · gain,   and so   r >= 1 - (1 - margin · gain / (power · loss))^(1/n),

or 1 where margin · gain >= power · loss: then no spot check deters, and everything is checked.
Rates are whole 65536ths. `check_rate` finds the least that holds by halving over whole numbers, so
all who know the same figures come to the same rate, whatever their floating point does.

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


class SpotCheckError(ProofError):
    """A figure outside its range; the message names it."""


@dataclass(frozen=True)
class CheckTerms:
    """`saved` is the share of its pay that a cheat saves, `power` the probability that a replay
    finds one, `margin` how many times the gain the loss must be. No rate is below `floor`
    (65536ths). The first `probation` units of a worker are replayed whole.

    int4 weights save less than half of the work and are found in nearly every sequence. A worker
    with 200 PRIME of stake, of which a conviction takes a tenth, that is paid 4 PRIME for a unit of
    four sequences comes to the floor, 1/16.
    """

    saved: Fraction = Fraction(1, 2)
    power: Fraction = Fraction(9, 10)
    margin: Fraction = Fraction(2)
    floor: int = ONE // 16
    probation: int = 32

    def __post_init__(self) -> None:
        if not (0 <= self.saved <= 1 and 0 < self.power <= 1 and self.margin >= 0):
            raise SpotCheckError("saved is 0 to 1, power above 0 to 1, margin not negative")
        if not (0 <= self.floor <= ONE and self.probation >= 0):
            raise SpotCheckError(f"floor is 0 to {ONE}, probation not negative")


DEFAULT_TERMS = CheckTerms()


def check_rate(
    pay: int, loss: int, sequences: int, verified: int, terms: CheckTerms = DEFAULT_TERMS
) -> int:
    """The share of sequences to replay, in 65536ths.

    `pay` (wei) is for one unit of `sequences`, `loss` (wei) what a convicted worker loses at least:
    what of its stake would be slashed. `verified` counts the worker's checked units without a
    fault. Raises SpotCheckError for amounts below 0 or no sequences.
    """
    if min(pay, loss, verified) < 0:
        raise SpotCheckError("amounts and counts are not negative")
    if not 1 <= sequences <= MAX_COUNT:
        raise SpotCheckError(f"{sequences} sequences; a unit has 1 to {MAX_COUNT}")
    if verified < terms.probation:
        return ONE
    low, high = terms.floor, ONE  # the answer lies within; `high` is what nothing less satisfies
    while low < high:
        middle = (low + high) // 2
        if deters(middle, pay, loss, sequences, terms):
            high = middle
        else:
            low = middle + 1
    return low


def deters(
    rate: int, pay: int, loss: int, sequences: int, terms: CheckTerms = DEFAULT_TERMS
) -> bool:
    """Whether cheating at this rate loses at least `margin` times what it gains."""
    missed: int = (ONE - rate) ** sequences
    whole: int = ONE**sequences
    needed = terms.margin * terms.saved * pay / terms.power
    return needed.denominator * loss * (whole - missed) >= needed.numerator * whole


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
