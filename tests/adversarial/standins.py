"""Stand-ins for what is heavy: the engine process and the chain. Same method names, no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import trio

from chain.errors import ChainUnreachable
from node.roles.terms import PoolTerms
from pipeline.engine import messages as m
from pipeline.engine.errors import EngineError
from proofs.bundle import ROWS_PER_PROOF
from proofs.eip712 import Domain
from proofs.receipts import EpochRoot
from proofs.signing import checksum_address, sign_digest

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
    """`generate` False makes stage 0 take work and stay silent."""

    def __init__(self, ring: Ring) -> None:
        self.ring = ring
        self.generate = True
        self.stage = 0
        self.generation = 0
        self.requests: list[tuple[str, m.Message]] = []
        self.refuse: dict[str, str] = {}
        self.extra_rows = 0
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
            chunk = m.ChunkMeasure(exp_mismatches=0, mant_err_mean=0.01, mant_err_median=0.0)
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


@dataclass
class Ledger:
    """The chain's state, shared by the clients of all nodes of a test."""

    creators: dict[int, str] = field(default_factory=dict)
    open_pools: set[int] = field(default_factory=set)
    members: set[tuple[int, str]] = field(default_factory=set)
    validators: set[str] = field(default_factory=set)
    roots: dict[int, list[EpochRoot]] = field(default_factory=dict)
    posts: int = 0
    paid: dict[str, int] = field(default_factory=dict)
    refuse_roots: set[int] = field(default_factory=set)


class Chain:
    """What roles use of `chain.client.ChainClient`, for the node with this key."""

    def __init__(self, ledger: Ledger, key: bytes, address: str) -> None:
        self.ledger, self._key, self.address = ledger, key, address

    def domain(self, contract: str) -> Domain:
        return DOMAIN

    async def pool(self, pool_id: int) -> Any:
        creator = self.ledger.creators.get(pool_id, "0x" + "0" * 40)
        terms = PoolTerms(model_id=MODEL.hex(), model="tiny", price_per_unit=str(PRICE))
        return SimpleNamespace(
            pool_id=pool_id,
            creator=creator,
            inviter=None if pool_id in self.ledger.open_pools else creator,
            uri=terms.to_uri(),
        )

    async def pool_funds(self, pool_id: int) -> Any:
        return SimpleNamespace(funded=10**24, committed=0)

    async def node(self, address: str) -> None:
        return None

    async def is_member(self, pool_id: int, node: str) -> bool:
        return (pool_id, node) in self.ledger.members

    async def is_validator(self, address: str) -> bool:
        return address in self.ledger.validators

    async def invite_digest(self, pool_id: int, node: str, deadline: int) -> bytes:
        return sha256(f"{pool_id}:{node}:{deadline}".encode()).digest()

    async def sign_invite(self, pool_id: int, node: str, deadline: int) -> bytes:
        return sign_digest(self._key, await self.invite_digest(pool_id, node, deadline))

    async def join_pool(self, pool_id: int, signature: bytes, deadline: int) -> None:
        self.ledger.members.add((pool_id, self.address))

    async def leave_pool(self, pool_id: int) -> None:
        self.ledger.members.discard((pool_id, self.address))

    async def eject_node(self, pool_id: int, node: str) -> None:
        self.ledger.members.discard((pool_id, node))

    async def next_epoch(self, pool_id: int) -> int:
        return len(self.ledger.roots.get(pool_id, [])) + 1

    async def latest_root(self, pool_id: int) -> EpochRoot | None:
        roots = self.ledger.roots.get(pool_id)
        return roots[-1] if roots else None

    async def post_root(self, root: EpochRoot, signatures: object) -> Any:
        if root.pool_id in self.ledger.refuse_roots:
            raise ChainUnreachable("http://test", "this pool's roots are refused")
        roots = self.ledger.roots.setdefault(root.pool_id, [])
        if len(roots) >= root.epoch:
            return None
        self.ledger.posts += 1
        roots.append(root)
        return SimpleNamespace(hash=bytes([len(roots)]) * 32, gas_used=1)

    async def claimed(self, pool_id: int, account: str) -> int:
        return self.ledger.paid.get(account, 0)

    async def claim(self, pool_id: int, account: str, amount: int, proof: object) -> Any:
        self.ledger.paid[account] = amount
        return SimpleNamespace(hash=b"\x01" * 32)
