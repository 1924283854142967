from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from node.onchain.known_nodes import KnownNodes, KnownTerms


def test_whoever_has_no_stake_is_asked_about_less_and_less() -> None:
    known, now, waits = KnownNodes(), 0.0, []
    assert known.due("sybil", now)
    for _ in range(10):
        known.learned("sybil", "", now)
        start = now
        while not known.due("sybil", now):
            now += 1.0
        waits.append(now - start)
    assert waits == [3.0, 6.0, 12.0, 24.0, 48.0, 96.0, 192.0, 384.0, 600.0, 600.0]


def test_a_stake_is_believed_for_a_while_and_its_loss_is_news() -> None:
    known = KnownNodes()
    assert known.learned("w", "0xp", 0.0)
    assert not known.learned("w", "0xp", 5.0)
    assert known.age("w", 7.0) == 2.0
    assert not known.due("w", 604.0)
    assert known.due("w", 605.0)
    assert known.learned("w", "", 605.0)
    assert known.provider("w") == ""
    assert known.age("w", 606.0) == math.inf


def test_a_chain_that_does_not_answer_takes_no_stake_away() -> None:
    known = KnownNodes()
    known.learned("w", "0xp", 0.0)
    known.unanswered("w", 700.0)
    assert known.provider("w") == "0xp"
    assert known.age("w", 700.0) == 700.0
    assert not known.due("w", 714.0)
    assert known.due("w", 715.0)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["", "0xp", None]))))
def test_it_never_holds_more_than_its_terms_say_and_strangers_push_no_stake_out(
    answers: list[tuple[int, str | None]],
) -> None:
    terms = KnownTerms(staked=4, others=8)
    known, staked = KnownNodes(terms), dict[int, None]()
    for number, provider in answers:
        if provider is None:
            known.unanswered(str(number), 0.0)
            continue
        known.learned(str(number), provider, 0.0)
        staked.pop(number, None)
        if provider:
            staked[number] = None
        for forgotten in list(staked)[:-4]:
            del staked[forgotten]
    assert [n for n in range(41) if known.provider(str(n))] == sorted(staked)
    assert sum(not known.due(str(n), 1.0) for n in range(41)) <= terms.staked + terms.others
