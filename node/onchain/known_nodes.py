"""What the chain said of nodes, and when it is to be asked again: pure, time is an argument.

Identities are free and each costs a question, so a node that is not registered is asked about less
and less often; soon at first, since an honest one connects before it is registered. Those that are
registered, whose number money bounds, are kept apart from all others: no crowd has them forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KnownTerms:
    """Seconds: `good` is for how long it is believed that a node has a stake. One that has none is
    asked about again after `again`, then after twice as long each time up to `longest`; one about
    which the chain gave no answer after `unanswered`. So many are kept, `staked` and `others`."""

    good: float = 600.0
    again: float = 3.0
    longest: float = 600.0
    unanswered: float = 15.0
    staked: int = 4096
    others: int = 8192


@dataclass(frozen=True)
class _Answer:
    provider: str
    at: float
    due: float
    times: int


class KnownNodes:
    """By peer id: the provider that is registered for the node and has the stake that its nodes
    need, "" where there is none."""

    def __init__(self, terms: KnownTerms | None = None) -> None:
        self._terms = terms or KnownTerms()
        self._staked: dict[str, _Answer] = {}
        self._others: dict[str, _Answer] = {}

    def provider(self, peer_id: str) -> str:
        """As far as is known; "" for a node that was never asked about."""
        answer = self._staked.get(peer_id)
        return "" if answer is None else answer.provider

    def due(self, peer_id: str, now: float) -> bool:
        """Whether the chain should be asked about it."""
        answer = self._staked.get(peer_id) or self._others.get(peer_id)
        return answer is None or now >= answer.due

    def age(self, peer_id: str, now: float) -> float:
        """Seconds since the chain said that a node has a stake; infinite where it did not."""
        answer = self._staked.get(peer_id)
        return float("inf") if answer is None else now - answer.at

    def learned(self, peer_id: str, provider: str, now: float) -> bool:
        """What the chain says now, "" for nobody; whether that is news of a stake."""
        before = self.provider(peer_id)
        known = self._others.pop(peer_id, None)
        self._staked.pop(peer_id, None)
        if provider:
            self._staked[peer_id] = _Answer(provider, now, now + self._terms.good, 0)
            _bound(self._staked, self._terms.staked)
        else:
            times = 0 if known is None else min(known.times + 1, 16)
            wait = min(self._terms.again * 2.0**times, self._terms.longest)
            self._others[peer_id] = _Answer("", now, now + wait, times)
            _bound(self._others, self._terms.others)
        return self.provider(peer_id) != before

    def unanswered(self, peer_id: str, now: float) -> None:
        """The chain was asked in vain: what was known stays so, and it is asked again later."""
        due = now + self._terms.unanswered
        for answers in (self._staked, self._others):
            if peer_id in answers:
                known = answers[peer_id]
                answers[peer_id] = _Answer(known.provider, known.at, due, known.times)
                return
        self._others[peer_id] = _Answer("", now, due, -1)
        _bound(self._others, self._terms.others)


def _bound(answers: dict[str, _Answer], most: int) -> None:
    """Forget what was learned longest ago."""
    if len(answers) > most:
        del answers[next(iter(answers))]
