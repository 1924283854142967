"""Typed journal events: one class for each kind of thing that the journal holds.

    class BundleTaken(JournalEvent, kind="peer.bundle"):
        bundle_id: bytes
        sender: str

        @property
        def key(self) -> str:
            return self.bundle_id.hex()

The first part of the kind is the event's origin, who caused it: a peer, the chain, the operator or
this node itself. It stands in the kind alone, so the two cannot contradict one another. The fields
are the body; the key follows from them. What the disk gives back is validated like what a stranger
sends: a body that does not fit raises `JournalError` and names the event.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from node.journal.store import Entry, Event, JournalError, Trim, check_kind

_KINDS: dict[str, type[JournalEvent]] = {}


class JournalEvent(BaseModel):
    """Base of all events. Subclasses name their `kind` and say what their `key` is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    kind: ClassVar[str] = ""

    def __init_subclass__(cls, *, kind: str, **kwargs: Any) -> None:
        """Register the class for its kind. Raises ValueError for a kind that is taken."""
        super().__init_subclass__(**kwargs)
        check_kind(kind)
        known = _KINDS.setdefault(kind, cls)
        if known.__qualname__ != cls.__qualname__ or known.__module__ != cls.__module__:
            raise ValueError(f"{kind} is the kind of {known.__qualname__} already")
        cls.kind = kind

    @property
    @abstractmethod
    def key(self) -> str:
        """What tells this event from others of its kind; appending it again changes nothing."""

    def to_entry(self) -> Entry:
        """The event as the journal's file takes it."""
        return Entry(self.kind, self.key, self.model_dump())

    @classmethod
    def from_stored(cls, stored: Event) -> Self:
        """The reverse of `to_entry`. Raises `JournalError`."""
        try:
            event = cls.model_validate(stored.body)
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "body"
            raise JournalError(
                f"event {stored.id} is no {cls.kind}: {where}: {first['msg']}"
            ) from exc
        if event.key != stored.key:
            raise JournalError(f"event {stored.id} is no {cls.kind}: its key is another's")
        return event


@dataclass(frozen=True)
class Forget:
    """Recorded among events: the event of this class and key is deleted, in the same transaction.
    For what is over and would otherwise be kept for ever."""

    event: type[JournalEvent]
    key: str

    def to_entry(self) -> Entry:
        """The deletion as the journal's file takes it."""
        return Entry(self.event.kind, self.key, erase=True)


@dataclass(frozen=True)
class OnlyNewest:
    """Recorded after an event, which replaces older ones: of its class (and of the keys that begin
    with `prefix`), the `most` that were written last stay, all others are deleted in the same
    transaction."""

    event: type[JournalEvent]
    most: int
    prefix: str = ""

    def to_entry(self) -> Trim:
        """The deletion as the journal's file takes it."""
        return Trim(self.event.kind, self.most, self.prefix)
