"""Whose turn it is, counted in tokens: deficit round robin (Shreedhar and Varghese, 1995).

Every sender that waits is visited in turn. A visit adds a `quantum` of tokens to what the sender
may spend, and it goes once that pays for the next thing it wants. So everybody gets the same share
of tokens, however many things it sends and however large they are: who sends large ones waits for
more visits. What is not spent is lost once a sender waits for nothing, so nobody saves up turns.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping

QUANTUM = 16_384
"""Tokens a visit: a few ordinary units."""


class FairTurns:
    """Turns among senders, who are any strings."""

    def __init__(self, quantum: int = QUANTUM) -> None:
        self._quantum = quantum
        self._deficits: dict[str, int] = {}

    def choose(self, waiting: Mapping[str, int]) -> str:
        """Who goes next among those `waiting`, a sender's value being the cost (tokens) of what it
        wants. The choice is charged at once. Raises ValueError where nobody waits."""
        if not waiting:
            raise ValueError("nobody waits")
        for sender in [sender for sender in self._deficits if sender not in waiting]:
            self._deficits[sender] += self._quantum
            if self._deficits[sender] >= 0:
                del self._deficits[sender]
        for sender in waiting:
            self._deficits.setdefault(sender, 0)
        self._skip_rounds(waiting)
        while True:
            for sender in [sender for sender in self._deficits if sender in waiting]:
                if self._deficits[sender] >= waiting[sender]:
                    self._deficits[sender] -= waiting[sender]
                    return sender
                # Visited: to the end of the round, with more to spend.
                self._deficits[sender] = self._deficits.pop(sender) + self._quantum

    def charge(self, sender: str, tokens: int) -> None:
        """Something cost a sender more than was charged for it: it waits longer the next time. The
        debt is paid off by turns, others' as well as its own, and then forgotten."""
        self._deficits[sender] = self._deficits.get(sender, 0) - tokens

    def _skip_rounds(self, waiting: Mapping[str, int]) -> None:
        """Take the rounds in which nobody can go yet at once: the cost of a choice then does not
        depend on what is chosen."""
        short = min(waiting[sender] - self._deficits[sender] for sender in waiting)
        rounds = max(-(-short // self._quantum) - 1, 0)
        for sender in waiting:
            self._deficits[sender] += rounds * self._quantum
