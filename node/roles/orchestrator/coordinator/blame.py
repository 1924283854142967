"""Who breaks rings: an account over hours in which all who may be at fault are held.

A broken ring seldom says who broke it. Whoever reports a bad frame may have had it from its
neighbour or made it up, so an incident is a set of suspects with at least one culprit among them:
both ends of an edge, the whole ring where it is only slow, one worker alone where this node saw it
itself. No single incident is proof. But assume that at most `t` workers are at fault. If more than
`t` would be needed to explain the incidents of one worker without it, it is at fault itself:

    score(w) = least number of others that hit every set which holds w;  score(w) > t  →  w rests

For edges this is the number of different partners with whom w broke them. An honest worker's sets
each hold a culprit, so the culprits alone explain them and its score is at most t: up to t workers
in collusion cannot have an honest one rest, whatever they report. Whoever goes on breaking rings in
ever new company crosses t. (Sources: a vertex of degree over k is in every vertex cover of size k,
S. Buss, in Buss and Goldsmith 1993; for sets, sunflowers, Erdős and Rado 1960; the bound on liars
as in diagnosable systems, Preparata, Metze and Chien 1967.) Company changes because `apart` has
planners separate those who failed together.

Accidents happen, so a set counts only once it has failed repeatedly, and weights halve every
`half_life`. What a resting worker has been found guilty of is explained by it: it counts against
its partners by half a worker each, as if half of its partners had lied. That is still sound (the
sum is at most t for an honest worker), and it bounds what more than t liars can do: t + 1 of them
can have an honest worker rest, for `established` incidents of each, and after 2t of them at most
they are found out themselves.

What no account can do: two workers without a third to take turns with are never told apart, and so
is any set whose members cannot be planned without one another.

Pure: time is an argument. In memory only; a restart begins with a clean account.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from node.roles.orchestrator.coordinator.decaying import Decaying

Suspects = frozenset[str]


@dataclass(frozen=True)
class BlameTerms:
    """Seconds, and weights in incidents of now, which halve every `half_life`; rests count for
    longer and halve every `memory`.

    A set of several counts once its weight reaches `established`, a worker alone at `alone`. A
    worker that is suspected rests `rest` seconds, twice as long for each time before, at most
    `rest_limit`; `found` and `found_limit` are the same for one that must be at fault. At most
    `most_liars` are reckoned with, however large the pool. No more than `sets` sets are kept, and
    none of more than `largest` workers; `steps` bounds one search.
    """

    half_life: float = 2 * 3600.0
    memory: float = 24 * 3600.0
    established: float = 3.5
    alone: float = 2.5
    rest: float = 20.0
    rest_limit: float = 3600.0
    found: float = 1800.0
    found_limit: float = 24 * 3600.0
    most_liars: int = 4
    sets: int = 4096
    largest: int = 32
    steps: int = 20_000


def liars(workers: int, terms: BlameTerms) -> int:
    """How many of so many workers may lie together: an eighth, at least one."""
    return max(1, min((workers - 1) // 8, terms.most_liars))


@dataclass
class _Failed:
    """A set of suspects: how much weighs against it, and how often it failed in all."""

    weight: Decaying = field(default_factory=Decaying)
    times: int = 0


class BlameAccount:
    """The incidents of one pool's workers, by peer id."""

    def __init__(self, terms: BlameTerms | None = None) -> None:
        self.terms = terms or BlameTerms()
        self._failed: dict[Suspects, _Failed] = {}
        self._of: dict[str, set[Suspects]] = {}
        self._suspected: dict[str, Decaying] = {}
        self._found: dict[str, Decaying] = {}

    def note(self, suspects: Collection[str], workers: int, now: float, weight: float = 1.0) -> str:
        """One of `suspects` broke a ring in a pool of so many workers, which weighs `weight`
        incidents. The one that must be at fault, "" where that cannot be said; of several the one
        with the highest score."""
        named = frozenset(suspects)
        if not named or len(named) > self.terms.largest:
            return ""
        if named not in self._failed and len(self._failed) >= self.terms.sets:
            self._forget(now)
        failed = self._failed.setdefault(named, _Failed())
        failed.weight.add(now, self.terms.half_life, weight)
        failed.times += 1
        for peer_id in named:
            self._of.setdefault(peer_id, set()).add(named)
        tolerated = liars(workers, self.terms)
        scores = {p: self.score(p, now, 2 * tolerated + 2) for p in named}
        worst = max(named, key=lambda p: (scores[p], self._against(p, now), p))
        return worst if scores[worst] > tolerated else ""

    def rest(self, peer_id: str, now: float, *, found: bool) -> float:
        """Seconds for which a worker rests that is suspected, or was `found` to be at fault."""
        terms = self.terms
        rests = self._found if found else self._suspected
        count = rests.setdefault(peer_id, Decaying())
        times = int(min(count.now(now, terms.memory), 16.0) + 0.5)
        count.add(max(now, count.at), terms.memory)
        if len(rests) > terms.sets:
            del rests[min(rests, key=lambda p: rests[p].now(now, terms.memory))]
        if found:
            return min(terms.found * 2.0**times, terms.found_limit)
        return min(terms.rest * 2.0**times, terms.rest_limit)

    def score(self, peer_id: str, now: float, most: int) -> float:
        """How many others it takes to explain this worker's incidents without it, up to `most`."""
        unexplained: list[Suspects] = []
        guilty: set[str] = set()
        for named in self._of.get(peer_id, ()):
            others = named - {peer_id}
            least = self.terms.established if others else self.terms.alone
            if self._weight(named, now) < least:
                continue
            if not others:
                return float(most)
            if found := [p for p in others if self._level(p, now) >= 0.5]:
                guilty.add(max(found, key=lambda p: (self._level(p, now), p)))
            else:
                unexplained.append(others)
        return _least_hitting(unexplained, most, self.terms.steps) + len(guilty) / 2

    def apart(self, candidates: Iterable[str], now: float) -> list[str]:
        """Workers to plan without, so that no set which has failed repeatedly is together again:
        one of each, the heaviest set first; the one with the highest score, else in turn."""
        here = set(candidates)
        together = {
            named
            for peer_id in here
            for named in self._of.get(peer_id, ())
            if len(named) > 1
            and named <= here
            and self._weight(named, now) >= self.terms.established
        }
        out: list[str] = []
        for named in sorted(together, key=lambda s: (-self._weight(s, now), sorted(s))):
            if named.isdisjoint(out):
                turn = self._failed[named].times
                order = sorted(named)
                order = order[turn % len(order) :] + order[: turn % len(order)]
                out.append(max(order, key=lambda p: self.score(p, now, 2 * len(order))))
        return out

    def _weight(self, named: Suspects, now: float) -> float:
        failed = self._failed.get(named)
        return failed.weight.now(now, self.terms.half_life) if failed else 0.0

    def _against(self, peer_id: str, now: float) -> float:
        return sum(self._weight(named, now) for named in self._of.get(peer_id, ()))

    def _level(self, peer_id: str, now: float) -> float:
        found = self._found.get(peer_id)
        return found.now(now, self.terms.memory) if found else 0.0

    def _forget(self, now: float) -> None:
        """Drop the lighter half: what is old, or happened once."""
        by_weight = sorted(self._failed, key=lambda named: self._weight(named, now))
        for named in by_weight[: len(by_weight) // 2 + 1]:
            del self._failed[named]
            for peer_id in named:
                self._of[peer_id].discard(named)
                if not self._of[peer_id]:
                    del self._of[peer_id]


def _least_hitting(sets: list[Suspects], most: int, steps: int) -> int:
    """The least number of workers that hit all these sets, at most `most`; too low, in a worker's
    favour, where the search would take more than `steps`."""
    left = [steps]
    for size in range(most):
        if _hits(sets, size, left) or left[0] <= 0:
            return size
    return most


def _hits(sets: list[Suspects], size: int, left: list[int]) -> bool:
    """Whether `size` workers can hit all sets: somebody of the smallest must be among them."""
    left[0] -= 1
    if not sets:
        return True
    if not size or left[0] <= 0:
        return False
    smallest = min(sets, key=len)
    return any(_hits([s for s in sets if p not in s], size - 1, left) for p in smallest)
