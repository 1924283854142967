"""Typed events: what goes in comes out, and what does not fit is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import ValidationError

from node.journal import Entry, Journal, JournalError, JournalEvent, OnlyNewest, open_journal
from node.journal.fields import AsBytes, AsDecimal
from proofs.encoding.receipts import Receipt
from tests.proofs.settlement.epochs import signed


class Taken(JournalEvent, kind="peer.test-taken"):
    """Something that a peer sent."""

    unit_id: bytes
    parts: tuple[tuple[int, bytes], ...] = ()

    @property
    def key(self) -> str:
        return self.unit_id.hex()


class Left(JournalEvent, kind="self.test-left"):
    """Something that this node did."""

    name: str

    @property
    def key(self) -> str:
        return self.name


async def test_events_come_back_as_they_were_in_order(tmp_path: Path) -> None:
    first, second = Taken(unit_id=b"u1", parts=((1, b"x"),)), Left(name="n")
    async with open_journal(tmp_path / "j.sqlite") as journal:
        assert await journal.record(first, second, state={"n": 1}) == [True, True]
        assert await journal.record(first, Taken(unit_id=b"u2")) == [False, True]
    async with open_journal(tmp_path / "j.sqlite") as journal:
        assert await journal.find(Taken, b"u1".hex()) == first
        assert await journal.find(Left, "other") is None
        assert await journal.replay(Taken, Left) == [first, second, Taken(unit_id=b"u2")]
        assert await journal.replay(Left) == [second]
        assert await journal.state("n") == 1


async def test_the_origin_is_the_kinds_first_part(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    async with open_journal(path) as journal:
        await journal.record(Taken(unit_id=b"u"), Left(name="n"))
    with Journal(path, lambda: 0.0) as stored:
        assert [event.origin for event in stored.events()] == ["peer", "self"]


@pytest.mark.parametrize(
    ("key", "body", "reason"),
    [
        ("75", {"unit_id": "75"}, "unit_id"),
        ("75", {"unit_id": b"u", "more": 1}, "more"),
        ("75", None, "body"),
        ("76", {"unit_id": b"u"}, "key"),
    ],
)
async def test_a_body_that_does_not_fit_is_named(tmp_path: Path, key, body, reason) -> None:
    path = tmp_path / "j.sqlite"
    with Journal(path, lambda: 0.0) as stored:
        stored.append("peer.test-taken", key, body)
    async with open_journal(path) as journal:
        with pytest.raises(JournalError, match=rf"event 1 is no peer\.test-taken: .*{reason}"):
            await journal.replay(Taken)


@pytest.mark.parametrize("kind", ["", "verdict", "thin-air.verdict", "self.", "self"])
def test_a_kind_begins_with_one_of_four_origins(kind: str) -> None:
    with pytest.raises(JournalError, match="a kind is like"):
        Entry(kind, "1")


def test_a_kind_belongs_to_one_class() -> None:
    with pytest.raises(ValueError, match=r"peer\.test-taken is the kind of Taken already"):

        class Other(JournalEvent, kind="peer.test-taken"):
            pass


class Paid(JournalEvent, kind="self.test-paid"):
    """Fields that MessagePack has no form for."""

    receipt: Annotated[Receipt, AsBytes()]
    amount: Annotated[int, AsDecimal()]

    @property
    def key(self) -> str:
        return self.receipt.job_id.hex()


RECEIPT = signed(1).receipt


@pytest.mark.parametrize("amount", [0, 1, 2**64, 2**256 - 1])
async def test_messages_and_large_numbers_come_back_as_they_were(
    tmp_path: Path, amount: int
) -> None:
    paid = Paid(receipt=RECEIPT, amount=amount)
    async with open_journal(tmp_path / "j.sqlite") as journal:
        await journal.record(paid)
        assert await journal.replay(Paid) == [paid]


@pytest.mark.parametrize(
    "changes",
    [
        {"receipt": RECEIPT.to_bytes()[:-1]},
        {"receipt": "text"},
        {"receipt": None},
        {"amount": -1},
        {"amount": 2**256},
        {"amount": "-1"},
        {"amount": "1e3"},
        {"amount": True},
        {"amount": b"1"},
    ],
)
def test_what_is_no_message_or_number_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Paid.model_validate({"receipt": RECEIPT.to_bytes(), "amount": "1"} | changes)


class Said(JournalEvent, kind="self.test-told"):
    """Something of somebody."""

    who: str
    number: int

    @property
    def key(self) -> str:
        return f"{self.who}:{self.number}"


async def test_only_the_newest_of_a_kind_stay_and_a_restart_finds_no_more(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.sqlite") as journal:
        await journal.record(Paid(receipt=RECEIPT, amount=1))
        for number in range(50):
            assert await journal.record(Said(who="a", number=number), OnlyNewest(Said, 3)) == [
                True,
                number >= 3,
            ]
        assert [event.number for event in await journal.replay(Said)] == [47, 48, 49]
        assert len(await journal.replay(Paid)) == 1
    async with open_journal(tmp_path / "j.sqlite") as journal:
        assert [event.number for event in await journal.replay(Said)] == [47, 48, 49]
        await journal.record(OnlyNewest(Said, 0))
        assert await journal.replay(Said) == []


async def test_the_newest_are_counted_by_what_keys_begin_with(tmp_path: Path) -> None:
    async with open_journal(tmp_path / "j.sqlite") as journal:
        for who in ("a", "ab", "b"):
            await journal.record(*(Said(who=who, number=n) for n in range(5)))
        await journal.record(OnlyNewest(Said, 2, "a:"))
        left = [(event.who, event.number) for event in await journal.replay(Said)]
        assert [n for who, n in left if who == "a"] == [3, 4]
        assert [who for who, _ in left].count("ab") == [who for who, _ in left].count("b") == 5
