"""A stand-in for the engine process: the same requests, no model.

`tests/conformance/test_engine.py` holds it and real engine processes to the same tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import trio

from pipeline.engine.control.messages import (
    Benched,
    Empty,
    EngineStatus,
    Evidence,
    Finished,
    JoinRing,
    Listen,
    Listening,
    Load,
    Loaded,
    Message,
    SequenceIds,
    SequenceSpec,
    Submit,
    Tokens,
)
from pipeline.engine.control.operations import (
    ABORT,
    BENCH,
    EVIDENCE,
    FORGET,
    JOIN_RING,
    LISTEN,
    LOAD,
    REPLAY,
    STATUS,
    SUBMIT,
    UNLOAD,
    AnswerT,
    Handlers,
    Operation,
    RequestT,
)
from pipeline.engine.control.replay_messages import Replay, Replayed, ReplayedSequence
from pipeline.engine.errors import EngineError
from proofs.encoding.eip712 import Domain
from proofs.encoding.signing import checksum_address
from proofs.evidence.ring_terms import request_terms, ring_digest
from proofs.evidence.sequence import ROWS_PER_PROOF, BundleSequence, FinishReason
from proofs.evidence.statement import StageEvidence, input_digest, token_digest
from proofs.thresholds.measures import (
    ChunkMeasure,
    RevealedRowsCheck,
    SamplingMeasure,
    SequenceMeasure,
)

LAYERS = 30
HIDDEN = 16
VOCAB = 1000
EOS = 2
MODEL = sha256(b"model").digest()
PROOF = b"\xff\xd9" + bytes(256)
DOMAIN = Domain(chain_id=31337, verifying_contract=checksum_address(b"\xaa" * 20))
POOL = 7
NO_RING = bytes(32)
PRICE = 10**15


def rows_of(stage: int, sequence_id: bytes, *, bad: bool = False) -> bytes:
    """The rows that stage `stage` sends on of a sequence, as they must be or not."""
    return b"%d %d " % (stage, bad) + sequence_id


def stage_evidence(
    sequence: BundleSequence | SequenceSpec,
    stage: int,
    stages: int = 2,
    *,
    output: tuple[int, ...] = (),
    bad: frozenset[int] = frozenset(),
    ring: bytes = NO_RING,
) -> StageEvidence:
    """What an honest stage says of a sequence; stages in `bad` sent on other rows than they should
    have. `output` where the sequence does not hold its own."""
    ids = sequence.output_ids if isinstance(sequence, BundleSequence) else output
    request, key = sequence.request, sequence.sequence_id

    def link(sender: int) -> bytes:
        return sha256(rows_of(sender, key, bad=sender in bad)).digest()

    return StageEvidence(
        sequence_id=key,
        rows=len(ids),
        proofs=(PROOF,) * -(-len(ids) // ROWS_PER_PROOF),
        sent=token_digest(ids, 0) if stage == stages - 1 else link(stage),
        received=link(stage - 1) if stage else input_digest(request.prompt_ids, ids),
        terms=request_terms(ring, request),
        returned=b"" if stage else token_digest(ids, 0),
    )


@dataclass
class Ring:
    """What the engines of one test generated: sequence id → spec and output. Stages in `bad` send
    on, and sign for, other rows than they should."""

    specs: dict[bytes, SequenceSpec] = field(default_factory=dict)
    outputs: dict[bytes, tuple[int, ...]] = field(default_factory=dict)
    bad: frozenset[int] = frozenset()


class Engine:
    """`generate` False makes stage 0 take work and stay silent, `mismatches` a replay find some, in
    the stages `off` (all: None). `says` changes this stage's evidence; `keeps` False keeps no rows.
    """

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.generate = True
        self.stage = 0
        self.generation = 0
        self.digest = NO_RING
        self.model_id = MODEL
        self.loaded = False
        self.known: set[bytes] = set()
        """What was submitted since the last ring was joined."""
        self.forgotten: set[bytes] = set()
        self.requests: list[tuple[str, Message]] = []
        self.refuse: dict[str, str] = {}
        self.says: dict[str, Any] = {}
        self.keeps = True
        self.renewed = 0
        self.pid = 1
        self.answers_after = 0.0
        self.mismatches = 0
        self.off: frozenset[int] | None = None
        self.stages = 2
        self.rows_dir = ""
        self._handlers = Handlers()
        self._handlers.on(STATUS, lambda _: EngineStatus(pid=1, rss=1))
        self._handlers.on(LOAD, self._load)
        self._handlers.on(UNLOAD, lambda _: Empty())
        self._handlers.on(LISTEN, self._listen)
        self._handlers.on(JOIN_RING, self._ring)
        self._handlers.on(SUBMIT, self._submit)
        self._handlers.on(ABORT, lambda _: Empty())
        self._handlers.on(EVIDENCE, self._evidence)
        self._handlers.on(FORGET, self._forget)
        self._handlers.on(REPLAY, self._replay)
        self._handlers.on(BENCH, lambda _: Benched(layer_seconds=0.001))
        self._handlers.check_complete()
        self._send, self.events = trio.open_memory_channel[tuple[str, Message]](4096)

    async def request(
        self, operation: Operation[RequestT, AnswerT], body: RequestT, timeout: float
    ) -> AnswerT:
        name = operation.name
        self.requests.append((name, body))
        if self.answers_after:
            with trio.fail_after(timeout):
                await trio.sleep(self.answers_after)
        if name in self.refuse:
            raise EngineError(self.refuse[name], f"{name} fails in this test")
        return self._handlers.of(operation)(body)

    async def renew(self) -> None:
        self.renewed += 1
        self.loaded = False

    def count(self, op: str) -> int:
        return sum(name == op for name, _ in self.requests)

    async def emit(self, name: str, body: Message) -> None:
        await self._send.send((name, body))

    def _load(self, body: Load) -> Loaded:
        self.rows_dir, self.model_id, self.loaded = body.rows_dir, body.model_id, True
        return Loaded(weights_bytes=1, kv_bytes=1, seconds=0.0)

    def _listen(self, body: Listen) -> Listening:
        return Listening(port=1, certificate=b"c" * 64, fingerprint=b"f" * 32, unix_path="/nowhere")

    def _ring(self, body: JoinRing) -> Empty:
        self._require_loaded()
        self.stage, self.generation, self.stages = body.stage, body.generation, body.stages
        self.known.clear()
        self.digest = ring_digest(self.model_id, body.group_id, body.generation, body.boundaries)
        return Empty()

    def _require_loaded(self) -> None:
        if not self.loaded:
            raise EngineError("not_loaded", "load a slice first")

    def _submit(self, body: Submit) -> Empty:
        self._require_loaded()
        for spec in body.sequences:
            if spec.sequence_id in self.known:
                continue
            self.known.add(spec.sequence_id)
            self.forgotten.discard(spec.sequence_id)
            self.ring.specs[spec.sequence_id] = spec
            if not self.generate:
                continue
            fresh = range(len(spec.generated), spec.request.max_tokens)
            ids = spec.generated + tuple(10 + i for i in fresh)
            self.ring.outputs[spec.sequence_id] = ids
            common = {"generation": self.generation, "sequence_id": spec.sequence_id}
            tokens = Tokens(offset=len(spec.generated), ids=ids[len(spec.generated) :], **common)
            self._send.send_nowait(("tokens", tokens))
            end = Finished(reason=FinishReason.LENGTH, ids=ids, **common)
            self._send.send_nowait(("finished", end))
        return Empty()

    def _evidence(self, body: SequenceIds) -> Evidence:
        return Evidence(items=tuple(self._item(key) for key in body.sequence_ids))

    def _forget(self, body: SequenceIds) -> Empty:
        self.forgotten |= set(body.sequence_ids)
        return Empty()

    def _item(self, sequence_id: bytes) -> StageEvidence:
        ids = self.ring.outputs.get(sequence_id)
        if ids is None or sequence_id in self.forgotten:
            raise EngineError("unknown_sequence", "not mine")
        found = stage_evidence(
            self.ring.specs[sequence_id],
            self.stage,
            self.stages,
            output=ids,
            bad=self.ring.bad,
            ring=self.digest,
        )
        if self.stage and self.keeps:
            before = self.stage - 1
            folder = Path(self.rows_dir)
            folder.mkdir(exist_ok=True)
            rows = rows_of(before, sequence_id, bad=before in self.ring.bad)
            (folder / f"{found.received.hex()}.rows").write_bytes(rows)
        return found.model_copy(update=self.says)

    def _replay(self, body: Replay) -> Replayed:
        items = []
        for asked in body.sequences:
            sequence = asked.sequence
            count = len(sequence.output_ids)
            chunks = []
            for stage in range(len(body.boundaries)):
                off = self.mismatches if self.off is None or stage in self.off else 0
                error = 40.0 if off else 0.0
                chunk = ChunkMeasure(exp_mismatches=off, mant_err_mean=error, mant_err_median=error)
                chunks.append((chunk,) * -(-count // ROWS_PER_PROOF))
            good = (ChunkMeasure(),) * -(-count // ROWS_PER_PROOF)
            sampling = SamplingMeasure(tokens=count, matches=count, scores=(0.0,) * count)
            revealed = []
            for rows in asked.revealed:
                error = _rows_error(sequence, rows.boundary, rows.path)
                if error < 0:
                    revealed.append(RevealedRowsCheck(error=error))
                    continue
                is_last = rows.boundary + 2 == len(body.boundaries)
                revealed.append(
                    RevealedRowsCheck(  # whoever got bad rows did right by them
                        error=error,
                        chunks=good if error else chunks[rows.boundary + 1],
                        sampling=sampling if is_last else None,
                        sent_error=_rows_error(sequence, rows.boundary + 1, rows.sent),
                    )
                )
            found = SequenceMeasure(
                sequence_id=sequence.sequence_id, stages=tuple(chunks), sampling=sampling
            )
            items.append(ReplayedSequence(measure=found, revealed=tuple(revealed)))
        return Replayed(items=tuple(items), seconds=0.0)


def _rows_error(sequence: BundleSequence, boundary: int, path: str) -> float:
    own = rows_of(boundary, sequence.sequence_id)
    content = Path(path).read_bytes() if path else b""
    return 0.0 if content == own else 9.0 if len(content) == len(own) else -1.0
