"""Strategies of dishonest providers, played against the rules of spot checks.

A provider's nodes do one unit a round. What is replayed is drawn as validators draw it; a verdict
comes `late` rounds after its unit. Gains count against honest work, in units' pay: a cheat gains
the work that it saves, and loses the pay of each unit that is not paid and, once for a conviction,
what is slashed. A convicted node is out; a doubted one is a newcomer again. Deterministic: whatever
is left to chance follows from the seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha256

from node.roles.validator.judging.spotcheck import coarse
from proofs.thresholds.spotcheck import DEFAULT_TERMS, ONE, CheckTerms, check_rate, chosen

PAY = 10**18


@dataclass(frozen=True)
class Market:
    """`pay` of a unit of `sequences`, wei, and what one conviction takes; a provider's `nodes`."""

    pay: int = 4 * PAY
    slash: int = 20 * PAY
    sequences: int = 4
    nodes: int = 1
    terms: CheckTerms = DEFAULT_TERMS


@cache
def rate_in(market: Market) -> int:
    """The share of an established worker's sequences that is replayed, in 65536ths."""
    terms = market.terms
    rate = check_rate(
        market.pay, market.slash, market.sequences, terms.probation, market.nodes, terms
    )
    return coarse(rate)


@dataclass(frozen=True)
class Plan:
    """What a node does with a unit: cheats in so many of its sequences, by forging or by cheaper
    arithmetic; or leaves it, having done the work of an honest one, before it signs."""

    cheated: int = 0
    forged: bool = False
    aborts: bool = False


HONEST = Plan()


@dataclass
class Node:
    """What the validators know of a node, and what it knows itself. `verified` as in
    `check_rate`; `doubts` are rounds in which it was found; `age` counts its units."""

    number: int
    verified: int = 0
    age: int = 0
    gone: bool = False
    doubts: list[int] = field(default_factory=list)
    waiting: list[tuple[int, bool, bool]] = field(default_factory=list)


Strategy = Callable[[Market, Node, int, float], Plan]
"""The plan of a node for a round; the last argument is chance, 0 to 1."""


def play(
    strategy: Strategy, market: Market, rounds: int, seed: int, *, identities: int = 0
) -> float:
    """What a provider gains over honest work in `rounds`, in pays of one unit. Nodes that are out
    come back as new ones up to `identities` times."""
    terms, gain, slashed = market.terms, 0.0, False
    nodes = [Node(number) for number in range(market.nodes)]
    for node in nodes:
        node.verified = terms.probation  # an honest past, which costs nothing
    fresh = market.nodes
    for now in range(rounds):
        for place, node in enumerate(nodes):
            slashed_now = _verdicts(node, now, terms)
            if slashed_now and not slashed:
                gain, slashed = gain - market.slash / market.pay, True
            if node.gone:
                if identities <= 0:
                    continue
                identities, fresh = identities - 1, fresh + 1
                node = nodes[place] = Node(fresh)
            plan = strategy(market, node, now, _chance(seed, node.number, now, b"plan"))
            node.age += 1
            gain += _unit(market, node, now, plan, seed)
    for node in nodes:
        if _verdicts(node, rounds + terms.late + 1, terms) and not slashed:
            gain, slashed = gain - market.slash / market.pay, True
    return gain


def _unit(market: Market, node: Node, now: int, plan: Plan, seed: int) -> float:
    """The gain of one unit; its verdict waits."""
    if plan.aborts:
        return -1.0
    terms = market.terms
    rate = rate_in(market) if node.verified >= terms.probation else ONE
    beacon = sha256(b"block %d %d" % (seed, now)).digest()
    draw_id = sha256(b"unit %d %d %d" % (seed, node.number, now)).digest()
    drawn = chosen(beacon, draw_id, market.sequences, rate)
    saved = plan.cheated / market.sequences * (1.0 if plan.forged else float(terms.saved))
    power = float(terms.forged_power if plan.forged else terms.power)
    seen = any(index < plan.cheated for index in drawn)
    found = seen and _chance(seed, node.number, now, b"power") < power
    node.waiting.append((now + terms.late, found, found and plan.forged))
    return saved - (1.0 if found else 0.0)


def _verdicts(node: Node, now: int, terms: CheckTerms) -> bool:
    """Take in the verdicts that have come by now; whether one convicts."""
    convicted = False
    due = [one for one in node.waiting if one[0] < now]
    node.waiting = [one for one in node.waiting if one[0] >= now]
    for _, found, forged in due:
        if not found:
            node.verified += 1
            continue
        node.verified = 0
        node.doubts.append(now)
        if forged:
            convicted = node.gone = True
    return convicted


def _chance(seed: int, *about: int | bytes) -> float:
    text = b" ".join(b"%d" % one if isinstance(one, int) else one for one in (seed, *about))
    return int.from_bytes(sha256(text).digest()[:6], "big") / 2.0**48


def _all(market: Market, forged: bool) -> Plan:
    return Plan(market.sequences, forged)


def _until_doubted(market: Market, node: Node, now: int, chance: float) -> Plan:
    calm = node.verified >= market.terms.probation
    return _all(market, False) if calm else HONEST


def _often(forged: bool, share: float) -> Strategy:
    def plan(market: Market, node: Node, now: int, chance: float) -> Plan:
        return _all(market, forged) if chance < share else HONEST

    return plan


def _one_sequence(forged: bool) -> Strategy:
    return lambda market, node, now, chance: Plan(1, forged)


def _aborting(market: Market, node: Node, now: int, chance: float) -> Plan:
    return Plan(aborts=True) if chance < 0.25 else _all(market, False)


def _last(forged: bool, units: int, rounds: int) -> Strategy:
    def plan(market: Market, node: Node, now: int, chance: float) -> Plan:
        return _all(market, forged) if now >= rounds - units else HONEST

    return plan


ROUNDS = 200
STRATEGIES: dict[str, tuple[Strategy, dict[str, int]]] = {
    "cheaper arithmetic until doubted, then honest until trusted": (_until_doubted, {}),
    "cheaper arithmetic always": (_often(False, 1.0), {}),
    "cheaper arithmetic in one unit of 16": (_often(False, 1 / 16), {}),
    "cheaper arithmetic in one sequence of each unit": (_one_sequence(False), {}),
    "cheaper arithmetic, aborting one unit in four": (_aborting, {}),
    "cheaper arithmetic in the last 3 units before leaving": (_last(False, 3, ROUNDS), {}),
    "forging whatever is not replayed": (_often(True, 1.0), {}),
    "forging one unit of 16": (_often(True, 1 / 16), {}),
    "forging one sequence of each unit": (_one_sequence(True), {}),
    "forging the last unit before leaving": (_last(True, 1, ROUNDS), {}),
    "forging the last 4 units before leaving": (_last(True, 4, ROUNDS), {}),
    "forging, and coming back under 8 new identities": (_often(True, 1.0), {"identities": 8}),
}
"""What each node of a provider does, and how often it comes back."""


def mean_gain(name: str, market: Market, games: int) -> float:
    """The mean gain of a strategy over that many games."""
    strategy, more = STRATEGIES[name]
    return sum(play(strategy, market, ROUNDS, seed, **more) for seed in range(games)) / games


MARKETS = {
    "one node": Market(),
    "one node, 16 sequences a unit": Market(sequences=16),
    "one node, one sequence a unit": Market(sequences=1),
    "one node, little stake": Market(slash=4 * PAY),
    "5 nodes of one provider": Market(nodes=5),
    "50 nodes of one provider": Market(nodes=50),
    "3 stages of one ring, one provider": Market(pay=12 * PAY),
}


def main() -> None:
    """Print the table: strategies by markets, mean gain over honest work in pays of one unit."""
    names = list(MARKETS)
    print("| strategy | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 1) + "|")
    print(
        "| *share replayed* | "
        + " | ".join(f"{rate_in(m) / ONE:.3g}" for m in MARKETS.values())
        + " |"
    )
    for name in STRATEGIES:
        found = [mean_gain(name, m, max(2, 40 // m.nodes)) for m in MARKETS.values()]
        print(f"| {name} | " + " | ".join(f"{gain:+.1f}" for gain in found) + " |", flush=True)


if __name__ == "__main__":
    main()
