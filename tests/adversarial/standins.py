"""A stand-in for the engine process: the same requests, no model."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import trio

from pipeline.engine import messages as m
from pipeline.engine.errors import EngineError
from proofs.bundle import ROWS_PER_PROOF
from proofs.eip712 import Domain
from proofs.signing import checksum_address

LAYERS = 30
VOCAB = 1000
EOS = 2
MODEL = sha256(b"model").digest()
PROOF = b"\xff\xd9" + bytes(256)
DOMAIN = Domain(chain_id=31337, verifying_contract=checksum_address(b"\xaa" * 20))
POOL = 7
PRICE = 10**15


@dataclass
class Ring:
    """What the engines of one test generated: sequence id → spec and output."""

    specs: dict[bytes, m.SequenceSpec] = field(default_factory=dict)
    outputs: dict[bytes, tuple[int, ...]] = field(default_factory=dict)


class Engine:
    """`generate` False makes stage 0 take work and stay silent, `mismatches` a replay find some."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.generate = True
        self.stage = 0
        self.generation = 0
        self.requests: list[tuple[str, m.Message]] = []
        self.refuse: dict[str, str] = {}
        self.extra_rows = 0
        self.mismatches = 0
        self._send, self.events = trio.open_memory_channel[tuple[str, m.Message]](4096)

    async def request(self, op: str, body: Any, timeout: float) -> Any:
        self.requests.append((op, body))
        if op in self.refuse:
            raise EngineError(self.refuse[op], f"{op} fails in this test")
        return getattr(self, "_" + op)(body)

    def count(self, op: str) -> int:
        return sum(name == op for name, _ in self.requests)

    async def emit(self, name: str, body: m.Message) -> None:
        await self._send.send((name, body))

    def _status(self, body: m.Empty) -> Any:
        return SimpleNamespace(running=0, rss=1, pid=1)

    def _load(self, body: m.Load) -> m.Loaded:
        return m.Loaded(weights_bytes=1, kv_bytes=1, seconds=0.0)

    def _listen(self, body: m.Listen) -> m.Listening:
        return m.Listening(
            port=1, certificate=b"c" * 64, fingerprint=b"f" * 32, unix_path="/nowhere"
        )

    def _ring(self, body: m.Ring) -> m.Empty:
        self.stage, self.generation = body.stage, body.generation
        return m.Empty()

    def _submit(self, body: m.Submit) -> m.Empty:
        for spec in body.sequences:
            self.ring.specs[spec.sequence_id] = spec
            if not self.generate:
                continue
            fresh = range(len(spec.generated), spec.max_tokens)
            ids = spec.generated + tuple(10 + i for i in fresh)
            self.ring.outputs[spec.sequence_id] = ids
            common = {"generation": self.generation, "sequence_id": spec.sequence_id}
            tokens = m.Tokens(offset=len(spec.generated), ids=ids[len(spec.generated) :], **common)
            self._send.send_nowait(("tokens", tokens))
            end = m.Finished(reason=m.FinishReason.LENGTH, ids=ids, text="a lie", **common)
            self._send.send_nowait(("finished", end))
        return m.Empty()

    def _evidence(self, body: m.SequenceIds) -> m.Evidence:
        return m.Evidence(items=tuple(self._item(key) for key in body.sequence_ids))

    def _forget(self, body: m.SequenceIds) -> m.Empty:
        return m.Empty()

    _abort = _forget

    def _item(self, sequence_id: bytes) -> m.StageEvidence:
        ids = self.ring.outputs.get(sequence_id)
        if ids is None:
            raise EngineError("unknown_sequence", "not mine")
        prompt = self.ring.specs[sequence_id].prompt_ids
        fed = (prompt[-1], *ids[:-1])
        first = sha256(b"".join(token.to_bytes(4, "little") for token in fed)).digest()
        rows = len(ids) + self.extra_rows
        return m.StageEvidence(
            sequence_id=sequence_id,
            rows=rows,
            proofs=(PROOF,) * -(-rows // ROWS_PER_PROOF),
            sent=_link(self.stage, sequence_id),
            received=_link(self.stage - 1, sequence_id) if self.stage else first,
        )

    def _replay(self, body: m.Replay) -> m.Replayed:
        items = []
        for sequence in body.sequences:
            count = len(sequence.output_ids)
            off = 40.0 if self.mismatches else 0.0
            chunk = m.ChunkMeasure(
                exp_mismatches=self.mismatches, mant_err_mean=off, mant_err_median=off
            )
            chunks = (chunk,) * -(-count // ROWS_PER_PROOF)
            items.append(
                m.ReplayedSequence(
                    sequence_id=sequence.sequence_id,
                    stages=(chunks,) * len(body.boundaries),
                    sampling=m.SamplingMeasure(tokens=count, matches=count, scores=(0.0,) * count),
                )
            )
        return m.Replayed(items=tuple(items), seconds=0.0)


def _link(stage: int, sequence_id: bytes) -> bytes:
    return sha256(b"%d" % stage + sequence_id).digest()
