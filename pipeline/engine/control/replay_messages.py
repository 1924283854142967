"""What a validator asks its engine to replay, and what it measured. See `messages`."""

from __future__ import annotations

from typing import Annotated

from pydantic import FailFast, Field

from pipeline.engine.control.messages import Message, Text
from proofs.encoding.fields import Count, Digest
from proofs.evidence.sequence import BundleSequence
from proofs.evidence.statement import KernelClass, Proofs
from proofs.thresholds.measures import RevealedRowsCheck, SequenceMeasure


class RevealedRows(Message):
    """Rows that stage `boundary` is said to have sent to the next one.

    `path` is a file of the rows at positions 0 .. P+T-2: [P+T-1, H] raw values in the model's
    dtype. `sent`, if not empty, is a like file of the rows that this next stage sent on, and
    refused where it is the last stage, which sends none. Their hashes are the asker's business.
    """

    boundary: Annotated[int, Field(ge=0, lt=256)]
    path: Text
    sent: Text = ""


class ReplaySequence(Message):
    """One sequence of a bundle for a validator to replay; `proofs[s]` are those that stage s gave.

    `revealed` rows are measured as well, and so is the stage that received them, by its `proofs`. A
    `boundary` that does not lie between two stages is a `bad_request`.
    """

    sequence: BundleSequence
    proofs: Annotated[tuple[Proofs, ...], Field(max_length=256)]
    revealed: Annotated[tuple[RevealedRows, ...], FailFast(), Field(max_length=256)] = ()


class Replay(Message):
    """Validator only: one prefill per sequence over the whole model, measured stage by stage.

    `boundaries[s]` is the layer after which stage s ends; the last one is the model's layer count.
    `verify_again` has the model's files hashed and loaded anew first, since its memory is doubted.
    """

    model_dir: Text
    model_id: Digest
    device: Text = "cpu"
    boundaries: Annotated[tuple[Count, ...], FailFast(), Field(min_length=1, max_length=256)]
    sequences: Annotated[tuple[ReplaySequence, ...], FailFast(), Field(max_length=4096)]
    verify_again: bool = False


class ReplayedSequence(Message):
    """What a replay measured of one sequence; `revealed[i]` is what came of its `revealed[i]`."""

    measure: SequenceMeasure
    revealed: Annotated[tuple[RevealedRowsCheck, ...], FailFast(), Field(max_length=256)] = ()


class Replayed(Message):
    """The answer: one item per sequence, in the order of the request. It took `seconds` of compute
    in the arithmetic that `kernel_class` names; `exact`: its rows may be compared for equality."""

    items: Annotated[tuple[ReplayedSequence, ...], FailFast(), Field(max_length=4096)]
    seconds: float
    kernel_class: KernelClass = ""
    exact: bool = False

    @property
    def measures(self) -> tuple[SequenceMeasure, ...]:
        """The measures of all sequences, in order."""
        return tuple(item.measure for item in self.items)
