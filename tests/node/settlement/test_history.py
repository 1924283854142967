"""A pool's history against a chain that voids roots and takes blocks back."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.settlement.history import KEPT, PoolHistory, PostedEpoch
from proofs.encoding.leaves import PostedRoot
from proofs.settlement.epoch_data import Epoch
from tests.proofs.settlement.epochs import OWNERS, PROVIDERS, settled, signed

SIGNERS = tuple(PROVIDERS)


def epoch_after(before: Epoch | None, job: int) -> Epoch:
    """The next epoch, over one unit of two stages."""
    number = 1 if before is None else before.data.epoch + 1
    earned = {} if before is None else before.earned
    return settled([signed(job), signed(job, 1)], epoch=number, earned=earned)


def posted(epoch: Epoch, block: int, signers: tuple[str, ...] = SIGNERS) -> PostedEpoch:
    return PostedEpoch(PostedRoot(epoch.root, signers), 100, block, f"0x{block:064x}")


def test_roots_come_in_turn_and_once() -> None:
    first = epoch_after(None, 1)
    second = epoch_after(first, 2)
    history = PoolHistory(1)
    assert not history.post(posted(second, 5))
    assert history.post(posted(first, 5))
    assert not history.post(posted(first, 5))
    assert not history.post(posted(epoch_after(None, 9), 6))
    assert history.post(posted(second, 7))
    assert (history.last, history.newest) == (2, posted(second, 7))
    assert history.get(0) is None
    assert history.get(3) is None


def test_only_the_data_of_that_very_root_fill_an_epoch() -> None:
    first, other = epoch_after(None, 1), epoch_after(None, 2)
    history = PoolHistory(1)
    assert not history.fill(1, first)
    history.post(posted(first, 5))
    assert not history.complete(1)
    assert not history.fill(1, other)
    assert not history.fill(2, first)
    assert [entry.number for entry in history.missing()] == [1]
    assert history.fill(1, first)
    assert history.complete(1)
    assert history.missing() == []
    assert history.earned(1) == first.earned
    assert history.earned(0) == {}
    assert sum(history.earned(1).values()) == first.root.total_payout
    assert set(history.earned(1)) == {OWNERS[w] for w in list(OWNERS)[:2]}


def test_only_the_newest_epochs_data_stay_in_memory() -> None:
    history, epoch = PoolHistory(1), None
    for number in range(1, 3 * KEPT):
        epoch = epoch_after(epoch, number)
        history.post(posted(epoch, number))
        assert history.fill(number, epoch)
        in_memory = [entry.number for entry in history.entries if entry.epoch is not None]
        assert in_memory == list(range(max(1, number - KEPT + 1), number + 1))
        assert history.complete(number)
    assert all(entry.filled for entry in history.entries)
    assert history.missing() == []
    with pytest.raises(LookupError, match="epoch 1 of pool 1"):
        history.earned(1)


def test_what_an_earlier_run_has_seen_is_not_missing_but_the_newest_are_read_again() -> None:
    history, epochs = PoolHistory(1), list[Epoch]()
    for number in range(1, 2 * KEPT + 1):
        epochs.append(epoch_after(epochs[-1] if epochs else None, number))
        history.post(posted(epochs[-1], number))
        history.trust(number)
    assert history.filled_to == history.last
    assert not history.complete(history.last)
    assert [entry.number for entry in history.missing()] == list(range(KEPT + 1, 2 * KEPT + 1))
    for entry in history.missing():
        assert history.fill(entry.number, epochs[entry.number - 1])
    assert history.complete(history.last)
    assert history.missing() == []
    history.void(history.last, 100)
    assert [entry.number for entry in history.missing()] == [KEPT]


def test_only_the_newest_root_can_be_voided() -> None:
    first = epoch_after(None, 1)
    history = PoolHistory(1)
    assert history.void(0, 5) is None
    history.post(posted(first, 5))
    history.post(posted(epoch_after(first, 2), 6))
    assert history.void(1, 7) is None
    assert history.void(2, 7) is not None
    assert history.void(2, 7) is None
    assert history.last == 1


def test_a_root_whose_voiding_left_the_chain_stands_again_and_is_filled_anew() -> None:
    first, again = epoch_after(None, 1), epoch_after(None, 2)
    history = PoolHistory(1)
    history.post(posted(first, 5))
    history.fill(1, first)
    history.void(1, 8)
    history.post(posted(again, 9))
    history.rewind(8)
    assert history.last == 0
    history.rewind(7)
    assert history.newest == posted(first, 5)
    assert [entry.number for entry in history.missing()] == [1]
    assert not history.complete(1)
    history.rewind(5)
    assert history.last == 1
    history.rewind(4)
    assert history.last == 0


def test_a_root_that_stands_again_is_not_filled_by_the_data_of_its_successor() -> None:
    first, again = epoch_after(None, 1), epoch_after(None, 2)
    history = PoolHistory(1)
    history.post(posted(first, 5))
    history.void(1, 8)
    history.post(posted(again, 9))
    assert history.fill(1, again)
    history.rewind(7)
    assert (history.newest, history.filled_to) == (posted(first, 5), 0)


@dataclass
class Chain:
    """What each block did: a root (and its data), or None for voiding the newest."""

    blocks: list[Epoch | None] = field(default_factory=list)

    def standing(self) -> list[tuple[Epoch, int]]:
        stack: list[tuple[Epoch, int]] = []
        for number, step in enumerate(self.blocks, 1):
            if step is not None:
                stack.append((step, number))
            elif stack:
                stack.pop()
        return stack


STEPS = st.tuples(
    st.sampled_from(["post", "post", "void", "fill", "wrong fill", "again", "rewind", "replay"]),
    st.integers(0, 7),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(STEPS, max_size=40))
def test_a_history_is_what_stands_on_chain_in_any_order_of_events(
    steps: list[tuple[str, int]],
) -> None:
    chain, history, filled = Chain(), PoolHistory(1), set[Epoch]()
    for step, pick in steps:
        standing = chain.standing()
        newest = standing[-1][0] if standing else None
        match step:
            case "post":
                epoch = epoch_after(newest, 100 + pick)
                chain.blocks.append(epoch)
                assert history.post(posted(epoch, len(chain.blocks)))
                filled -= {epoch}
            case "void":
                chain.blocks.append(None)
                voided = history.void(len(standing), len(chain.blocks))
                assert (voided is None) == (newest is None)
            case "fill" if standing:
                epoch, _ = standing[pick % len(standing)]
                assert history.fill(epoch.data.epoch, epoch)
            case "wrong fill" if standing:
                epoch, _ = standing[pick % len(standing)]
                wrong = epoch_after(None, 999)
                assert not history.fill(epoch.data.epoch, wrong)
            case "again" if standing:
                epoch, block = standing[pick % len(standing)]
                assert not history.post(posted(epoch, block))
            case "rewind":
                del chain.blocks[max(len(chain.blocks) - pick, 0) :]
                history.rewind(len(chain.blocks))
            case "replay":
                _replay(chain, history)
        standing = chain.standing()
        assert [(e.posted.root, e.block) for e in history.entries] == [
            (epoch.root, block) for epoch, block in standing
        ]
        for entry, (epoch, _) in zip(history.entries, standing, strict=True):
            assert entry.epoch in (None, epoch)
        # Only epochs whose forerunners are all here are counted: the next one builds on those.
        gaps = [n for n, e in enumerate(history.entries) if not e.filled]
        assert history.filled_to == (gaps[0] if gaps else history.last)
        lost = [e for e in history.entries[-KEPT:] if e.epoch is None]
        assert history.missing() == [e for e in history.entries if not e.filled or e in lost]
        newest = history.newest
        whole = newest is None or newest.epoch is not None
        assert history.complete(history.last) == (not gaps and whole)


def _replay(chain: Chain, history: PoolHistory) -> None:
    """A crash before the cursor moved: the same blocks come once more, in order."""
    for number, step in enumerate(chain.blocks, 1):
        if step is not None:
            history.post(posted(step, number))
        else:
            standing = Chain(chain.blocks[: number - 1]).standing()
            history.void(len(standing), number)
