"""Bytes are reserved before they are read, and reading is charged for."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from node.roles.validator.intake.offers import Offer, OfferLimits, Offers
from p2p.errors import Refused

LIMITS = OfferLimits(
    sender_bytes=100, total_bytes=250, seconds=10.0, cpu_share=0.1, cpu_burst=5.0, penalty=30.0
)


def offer(number: int = 1, size: int = 40, sender: str = "a") -> Offer:
    return Offer(sender, 7, bytes(32), number.to_bytes(32, "big"), size, 10)


def test_only_what_was_offered_may_be_uploaded() -> None:
    offers, mine = Offers(LIMITS), offer()
    for refused in (
        lambda: offers.require_any("a", 0.0),
        lambda: offers.begin("a", mine.bundle_id, 40, 0.0),
    ):
        with pytest.raises(Refused, match="offer"):
            refused()
    offers.reserve(mine, 0.0)
    offers.require_any("a", 0.0)
    with pytest.raises(Refused):
        offers.require_any("b", 0.0)
    assert offers.begin("a", mine.bundle_id, 40, 1.0) == mine
    with pytest.raises(Refused, match="being read"):
        offers.begin("a", mine.bundle_id, 40, 1.0)
    offers.end(mine)
    with pytest.raises(Refused):
        offers.require_any("a", 1.0)
    assert offers.size == 0


def test_room_is_kept_for_each_sender_and_no_longer_than_an_upload_takes() -> None:
    offers = Offers(LIMITS)
    offers.reserve(offer(1), 0.0)
    offers.reserve(offer(1), 0.0)  # asked again: reserved once
    offers.reserve(offer(2), 0.0)
    with pytest.raises(Refused, match="too many"):
        offers.reserve(offer(3), 0.0)
    offers.reserve(offer(3, sender="b"), 0.0)
    assert offers.size == 120
    offers.reserve(offer(3), 10.0)
    assert offers.size == 40


def test_reading_is_charged_and_a_lie_costs_more_than_a_mistake() -> None:
    offers = Offers(LIMITS)
    offers.charge("a", 6.0, 0.0)
    with pytest.raises(Refused, match="time"):
        offers.reserve(offer(), 1.0)
    offers.reserve(offer(sender="b"), 1.0)
    offers.reserve(offer(), 11.0)
    with pytest.raises(Refused, match="offered"):
        offers.begin("a", offer().bundle_id, 41, 11.0)
    with pytest.raises(Refused, match="time"):
        offers.reserve(offer(2), 200.0)
    offers.reserve(offer(2), 400.0)


class OffersModel(RuleBasedStateMachine):
    """Any order of offers, uploads and time."""

    def __init__(self) -> None:
        super().__init__()
        self.offers = Offers(LIMITS)
        self.now = 0.0
        self.open: list[Offer] = []

    @rule(sender=st.sampled_from("abcd"), number=st.integers(1, 5), size=st.integers(1, 120))
    def reserve(self, sender: str, number: int, size: int) -> None:
        try:
            self.offers.reserve(offer(number, size, sender), self.now)
        except Refused:
            return

    @rule(sender=st.sampled_from("abcd"), number=st.integers(1, 5), size=st.integers(1, 120))
    def begin(self, sender: str, number: int, size: int) -> None:
        try:
            found = self.offers.begin(sender, number.to_bytes(32, "big"), size, self.now)
        except Refused:
            return
        assert found.size == size
        self.open.append(found)

    @rule()
    def end(self) -> None:
        if self.open:
            self.offers.end(self.open.pop())

    @rule(seconds=st.floats(0.0, 12.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def never_more_than_the_limits(self) -> None:
        assert self.offers.size <= LIMITS.total_bytes
        assert all(n <= LIMITS.sender_bytes for n in self.offers._bytes.values())
        assert self.offers.size == sum(r.offer.size for r in self.offers._reserved.values())

    @invariant()
    def what_is_read_keeps_its_place(self) -> None:
        assert sum(o.size for o in self.open) <= self.offers.size


TestOffersModel = OffersModel.TestCase
TestOffersModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
