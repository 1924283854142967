"""Frames between stages: what the headers on a data-plane edge mean.

Three messages, each one MessagePack map in a frame's header (or the edge's hello):

- *hello*, dialler → acceptor: who it is in which ring, and its cut of the model;
- *step*, stage s → s+1: a batch; the payload is the rows' hidden states, raw little-endian values
  of the compute dtype, row after row;
- *token*, last stage → stage 0: the step and one token id per sampling item; no payload.

After the map of a step or token frame, its *trail*: what each stage took for the batch, stage 0
first, each adding its own 8 bytes (microseconds that it waited and worked, big-endian).

Decoding checks shape, types and bounds and raises `StageViolation`; whether a well-formed batch
makes sense is for `table`, which knows the sequences.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

import msgpack
from pydantic import ValidationError

from pipeline.engine.errors import StageViolation
from pipeline.engine.schedule.batch import MAX_CLOSES, MAX_ITEMS, Batch, Close, Grow, Item, Open
from pipeline.engine.schedule.pace import Leg
from proofs.sampling.settings import SamplingSettings

MAX_HEADER = 256 * 1024
_POSITIONS = 2**31
_LEG = struct.Struct(">II")


@dataclass(frozen=True)
class Hello:
    """Where a dialler stands in a ring. `layer`: where its slice ends and the acceptor's begins."""

    group_id: bytes
    generation: int
    stage: int
    stages: int
    model_id: bytes
    layer: int
    dtype: str

    def encode(self) -> bytes:
        """The hello's bytes: a MessagePack array of the fields in order."""
        ring = [self.group_id, self.generation, self.stage, self.stages]
        packed: bytes = msgpack.packb([*ring, self.model_id, self.layer, self.dtype])
        return packed


def check_hello(received: bytes, expected: Hello) -> None:
    """Compare a hello with the only acceptable one. Raises `StageViolation` naming a difference."""
    if received == expected.encode():
        return
    fields = _unpack(received)
    names = list(Hello.__dataclass_fields__)
    if not isinstance(fields, tuple) or len(fields) != len(names):
        raise StageViolation("the peer's hello is malformed")
    for name, got in zip(names, fields, strict=True):
        wanted = getattr(expected, name)
        if got != wanted:
            raise StageViolation(f"{name} is {_show(got)}, this stage expects {_show(wanted)}")
    raise StageViolation("the peer's hello is malformed")


def encode_step(generation: int, batch: Batch) -> bytes:
    """Header of a step frame."""
    packed: bytes = msgpack.packb(
        [
            generation,
            batch.step,
            [[c.sequence_id, c.outputs, c.last_token] for c in batch.closes],
            [
                [
                    o.sequence_id,
                    o.prompt,
                    o.capacity,
                    list(o.sampling.model_dump().values()),
                    o.ending,
                ]
                for o in batch.opens
            ],
            [[g.sequence_id, g.capacity] for g in batch.grows],
            [[i.sequence_id, i.start, i.count, i.sample] for i in batch.items],
        ]
    )
    return packed


def decode_step(header: bytes, generation: int) -> Batch:
    """Parse a step frame's header. Raises `StageViolation`."""
    fields = _unpack(header)
    match fields:
        case (int(sender), int(step), tuple(closes), tuple(opens), tuple(grows), tuple(items)):
            pass
        case _:
            raise StageViolation("step frame is malformed")
    if sender != generation:
        raise StageViolation(f"frame of generation {sender}, the ring is {generation}")
    if not 0 <= step < 2**63:
        raise StageViolation("step number is out of range")
    if max(len(items), len(opens), len(grows)) > MAX_ITEMS or len(closes) > MAX_CLOSES:
        raise StageViolation("step frame has too many entries")
    return Batch(
        step,
        items=tuple(_item(entry) for entry in items),
        opens=tuple(_open(entry) for entry in opens),
        closes=tuple(_close(entry) for entry in closes),
        grows=tuple(_grow(entry) for entry in grows),
    )


def encode_tokens(generation: int, step: int, tokens: tuple[int, ...]) -> bytes:
    """Header of a token frame."""
    packed: bytes = msgpack.packb([generation, step, list(tokens)])
    return packed


def decode_tokens(header: bytes, generation: int, step: int, count: int, vocab: int) -> list[int]:
    """Parse a token frame that must answer `step` with `count` ids below `vocab`.

    Raises `StageViolation`.
    """
    fields = _unpack(header)
    match fields:
        case (int(sender), int(answered), tuple(tokens)):
            pass
        case _:
            raise StageViolation("token frame is malformed")
    if (sender, answered) != (generation, step):
        raise StageViolation(
            f"tokens for step {answered} of generation {sender}, "
            f"expected step {step} of generation {generation}"
        )
    if len(tokens) != count:
        raise StageViolation(f"{len(tokens)} tokens came back for {count} samples")
    ids = [token for token in tokens if type(token) is int and 0 <= token < vocab]
    if len(ids) != count:
        raise StageViolation("a returned token is outside of the vocabulary")
    return ids


def encode_legs(legs: Iterable[Leg]) -> bytes:
    """What stages took, as a trail's bytes."""
    return b"".join(_LEG.pack(_micros(leg.waited), _micros(leg.worked)) for leg in legs)


def split_trail(frame: bytes, stages: int) -> tuple[bytes, bytes]:
    """A frame's header, cut into its map and the trail of so many stages. Raises `StageViolation`
    for a shorter one."""
    cut = len(frame) - stages * _LEG.size
    if cut < 0:
        raise StageViolation("frame header is shorter than what the stages before took")
    return frame[:cut], frame[cut:]


def decode_legs(trail: bytes) -> tuple[Leg, ...]:
    """What stages took, from a trail's bytes (`split_trail`)."""
    return tuple(Leg(waited / 1e6, worked / 1e6) for waited, worked in _LEG.iter_unpack(trail))


def _micros(seconds: float) -> int:
    return min(max(int(seconds * 1e6), 0), 2**32 - 1)


def _unpack(header: bytes) -> object:
    try:
        return msgpack.unpackb(header, use_list=False, raw=False)
    except (ValueError, msgpack.UnpackException, RecursionError) as exc:
        raise StageViolation(f"frame header is not MessagePack: {exc}") from exc


def _sequence_id(value: object) -> bytes:
    if not isinstance(value, bytes) or len(value) != 16:
        raise StageViolation("a sequence id is not 16 bytes")
    return value


def _number(value: object, least: int) -> int:
    if type(value) is not int or not least <= value < _POSITIONS:
        raise StageViolation("a count or position is out of range")
    return value


def _item(entry: object) -> Item:
    match entry:
        case (sequence_id, start, count, bool(sample)):
            return Item(_sequence_id(sequence_id), _number(start, 0), _number(count, 1), sample)
    raise StageViolation("an item is malformed")


def _open(entry: object) -> Open:
    match entry:
        case (sequence_id, prompt, capacity, tuple(sampling), bytes(ending)) if len(ending) == 32:
            pass
        case _:
            raise StageViolation("an open is malformed")
    names = list(SamplingSettings.model_fields)
    if len(sampling) != len(names):
        raise StageViolation("sampling parameters are malformed")
    try:
        checked = SamplingSettings.model_validate(dict(zip(names, sampling, strict=True)))
    except ValidationError as exc:
        raise StageViolation("sampling parameters are out of range") from exc
    return Open(
        _sequence_id(sequence_id), _number(prompt, 1), _number(capacity, 1), checked, ending
    )


def _grow(entry: object) -> Grow:
    match entry:
        case (sequence_id, capacity):
            return Grow(_sequence_id(sequence_id), _number(capacity, 1))
    raise StageViolation("a grow is malformed")


def _close(entry: object) -> Close:
    match entry:
        case (sequence_id, outputs, last_token):
            return Close(_sequence_id(sequence_id), _number(outputs, 0), _number(last_token, 0))
    raise StageViolation("a close is malformed")


def _show(value: object) -> str:
    return value[:4].hex() if isinstance(value, bytes) else str(value)[:40]
