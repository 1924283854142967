"""Typed events: what goes in comes out, and what does not fit is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.journal import Entry, Journal, JournalError, JournalEvent, open_journal


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
