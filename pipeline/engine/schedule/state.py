"""What the scheduler holds of one ring: who is in it, and the batches under way and being made."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from pipeline.engine.schedule.batch import MAX_ITEMS, Close, Grow, Item, Open
from pipeline.engine.schedule.costs import Load
from pipeline.engine.schedule.events import RingUp
from pipeline.engine.schedule.memory import Ledger
from pipeline.engine.schedule.pace import Pace, Pacing
from pipeline.engine.schedule.sequence import Sequence
from proofs.evidence.ring_terms import ending_digest


@dataclass(frozen=True)
class Flight:
    """A batch under way, with the sequences (not ids: an id may be used again) that it concerns."""

    step: int
    members: tuple[Sequence, ...]
    sampled: tuple[Sequence, ...]
    sealed: tuple[Sequence, ...]
    load: Load
    decodes: bool
    prefills: bool
    sent: float


@dataclass
class RingState:
    """`held` sequences have KV cache. Of these, `prompts` (by rank) have more to compute than
    their newest token, `ready` ones just that."""

    limits: RingUp
    pace: Pace
    memory: Ledger
    step: int = 0
    flights: deque[Flight] = field(default_factory=deque)
    held: set[Sequence] = field(default_factory=set)
    prompts: list[Sequence] = field(default_factory=list)
    ready: deque[Sequence] = field(default_factory=deque)
    closing: list[tuple[Sequence, int]] = field(default_factory=list)

    @property
    def micro_batches(self) -> int:
        """Batches of sequences that decode, in flight at most."""
        return self.limits.micro_batches or self.pace.micro_batches

    @property
    def decoding(self) -> int:
        """Sequences whose prompts are in the cache, or on their way there."""
        return len(self.held) - len(self.prompts)

    def takes(self, pacing: Pacing) -> tuple[bool, bool]:
        """Whether there is a slot for a batch of sequences that decode, and for one of slices
        alone. Those have slots of their own, so that neither keeps the other waiting."""
        working = [flight for flight in self.flights if flight.load.rows]
        if self.limits.micro_batches:
            return (len(working) < self.limits.micro_batches,) * 2
        decoding = sum(flight.decodes for flight in working)
        beside = 1 if self.decoding else min(self.limits.stages, pacing.most)
        return decoding < self.micro_batches, len(working) - decoding < beside

    def share(self, sequences: int) -> int:
        """An equal part of so many sequences."""
        return min(MAX_ITEMS, -(-sequences // self.micro_batches))

    def decode_load(self) -> Load | None:
        """A batch of sequences as they decode now; None where none does."""
        prompts = set(self.prompts)
        lengths = [len(s.token_ids) for s in self.held if s not in prompts]
        share = self.share(len(lengths))
        return Load(share, sum(lengths) * share // len(lengths)) if lengths else None


class Draft:
    """A batch as it is put together."""

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.items: list[Item] = []
        self.opens: list[Open] = []
        self.grows: list[Grow] = []
        self.members: list[Sequence] = []
        self.tokens: list[int] = []
        self.sampled: list[Sequence] = []
        self.preempted: list[tuple[Sequence, int]] = []
        self.load = Load(0)
        self.prefills = False

    def take(self, sequence: Sequence, count: int) -> Item:
        """Take the next `count` tokens of a sequence; one is wanted after the last known one."""
        if not sequence.num_computed_tokens:
            self.opens.append(open_of(sequence))
        start = sequence.num_computed_tokens
        sequence.num_computed_tokens += count
        sequence.in_flight += 1
        self.members.append(sequence)
        wanted = not sequence.num_uncomputed_tokens and sequence.reason is None
        item = Item(sequence.spec.sequence_id, start, count, wanted)
        self.items.append(item)
        self.tokens += sequence.token_ids[start : start + count]
        self.budget -= count
        self.load = Load.of(self.items) if count > 1 else self.load.plus_read(start)
        if wanted:
            self.sampled.append(sequence)
        return item


def open_of(sequence: Sequence) -> Open:
    """How a sequence begins in a ring."""
    request = sequence.spec.request
    return Open(
        request.sequence_id,
        len(request.prompt_ids),
        sequence.capacity,
        request.sampling,
        ending_digest(request),
    )


def close_of(sequence: Sequence, outputs: int) -> Close:
    """How it ends there; with 0 outputs it is dropped."""
    return Close(sequence.spec.sequence_id, outputs, sequence.token_ids[-1] if outputs else 0)
