"""The KV pool's bookkeeping against a model that only counts."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from pipeline.runner.errors import KvExhausted, RunnerError, UnknownSequence
from pipeline.runner.pool import SpanPool

SIZE = 24


class PoolMachine(RuleBasedStateMachine):
    """Opens and closes at random; moves are replayed on an array of owners."""

    open_ones = Bundle("open_ones")

    def __init__(self) -> None:
        super().__init__()
        self.pool = SpanPool(SIZE)
        self.capacity: dict[bytes, int] = {}
        self.cells: list[bytes | None] = [None] * SIZE
        self.count = 0

    @rule(target=open_ones, capacity=st.integers(1, 10))
    def open(self, capacity: int) -> bytes:
        self.count += 1
        name = self.count.to_bytes(4, "big")
        free = SIZE - sum(self.capacity.values())
        if capacity > free:
            with pytest.raises(KvExhausted):
                self.pool.open(name, capacity)
            return b""
        for move in self.pool.open(name, capacity):
            piece = self.cells[move.source : move.source + move.count]
            self.cells[move.target : move.target + move.count] = piece
        self.capacity[name] = capacity
        span = self.pool[name]
        span.filled = capacity
        self.cells[span.offset : span.offset + capacity] = [name] * capacity
        return name

    @rule(name=open_ones, more=st.integers(0, 6))
    def grow(self, name: bytes, more: int) -> None:
        if name not in self.capacity:
            return
        wanted = self.capacity[name] + more
        if more > SIZE - sum(self.capacity.values()):
            with pytest.raises(KvExhausted):
                self.pool.grow(name, wanted)
            return
        for move in self.pool.grow(name, wanted):
            piece = self.cells[move.source : move.source + move.count]
            self.cells[move.target : move.target + move.count] = piece
        span = self.pool[name]
        kept = self.cells[span.offset : span.offset + span.filled]
        assert kept == [name] * self.capacity[name]
        self.capacity[name] = span.filled = wanted
        self.cells[span.offset : span.offset + wanted] = [name] * wanted

    @rule(name=consumes(open_ones))
    def close(self, name: bytes) -> None:
        if name:
            self.pool.close(name)
            del self.capacity[name]

    @invariant()
    def every_sequence_holds_its_own_cells(self) -> None:
        assert self.pool.used == sum(self.capacity.values())
        for name, capacity in self.capacity.items():
            span = self.pool[name]
            assert span.capacity == capacity
            assert span.offset + capacity <= SIZE
            assert self.cells[span.offset : span.offset + capacity] == [name] * capacity


TestPool = PoolMachine.TestCase


def test_misuse_is_refused() -> None:
    pool = SpanPool(4)
    pool.open(b"a", 2)
    with pytest.raises(RunnerError, match="already"):
        pool.open(b"a", 1)
    with pytest.raises(RunnerError, match="at least one"):
        pool.open(b"b", 0)
    with pytest.raises(UnknownSequence):
        pool.close(b"b")
    with pytest.raises(RunnerError, match="cannot grow"):
        pool.grow(b"a", 1)
    with pytest.raises(UnknownSequence):
        pool.grow(b"b", 1)
    with pytest.raises(RunnerError, match="at least one"):
        SpanPool(0)
