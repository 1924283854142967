"""Real hosts on loopback with real role services and journals; see `standins` for the rest."""

from __future__ import annotations

import hashlib
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgpack
import structlog
import trio
import trio.testing

from node.config.hardware import Device
from node.config.schema import NodeConfig
from node.context import NodeContext
from node.journal import open_journal
from node.metrics import NodeMetrics
from node.onchain.blocks import Blocks
from node.onchain.receipt_domain import receipt_domain
from node.onchain.registry import ChainRegistry, RegistryTiming
from node.retry import Backoff
from node.roles.assembly import Roles, needs_all_epochs
from node.roles.orchestrator.chain_parts import parts_on_chain, parts_without_chain
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.pool import Policy
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.jobs.cutting import JobCutter
from node.roles.orchestrator.service import Orchestrator
from node.roles.orchestrator.timing import OrchestratorTiming
from node.roles.orchestrator.workers.builder import Builder, GroupTerms
from node.roles.validator.assembly import OpenModel, open_validator
from node.roles.validator.judging.engine import ReplayTiming
from node.roles.validator.judging.rows import RowsTiming
from node.roles.validator.service import Validator
from node.roles.validator.settlement.convictions import ConvictionTiming
from node.roles.validator.settlement.pending import EpochRules
from node.roles.validator.settlement.proposer import ProposalTiming
from node.roles.validator.timing import JudgingTiming, SettlementTiming, ValidatorTiming
from node.roles.worker.service import Worker, WorkerOptions, build_worker
from node.roles.worker.timing import RewardTiming, WorkerTiming
from node.settlement.chain_follower import ChainFollower, EventSource, FollowerTiming
from node.settlement.follower import NothingSettled
from node.supervisor.supervisor import Supervisor
from node.wire.blobs import BlobStore, FetchTiming
from node.wire.codec import encode
from node.wire.messages.fields import Body
from node.wire.messages.work import EdgeAnswer
from node.wire.methods import Method
from p2p.errors import RemoteRefused
from p2p.network import Network, NetworkConfig, NodeRecord, open_network
from pipeline.engine.control.messages import Endpoint
from pipeline.models.manifest import Manifest
from pipeline.models.prepared import PreparedModel
from pipeline.planner import Candidate, CannotPlan, GroupPlan, StagePlan
from proofs.encoding.signing import address_of
from tests.adversarial.ledger import Ledger
from tests.adversarial.ledger_client import Chain, Reader
from tests.adversarial.standins import EOS, HIDDEN, LAYERS, MODEL, POOL, VOCAB, Engine

SECONDS = 120.0
VALIDATOR_TIMING = ValidatorTiming(
    delivery=Backoff.every(0.01, most=20),
    judging=JudgingTiming(
        replays=ReplayTiming(attempts=Backoff.every(0.01, most=4)),
        rows=RowsTiming(stage_tries=Backoff(first=0.01, last=0.08, most=5)),
    ),
    settlement=SettlementTiming(
        rules=EpochRules(quiet=0.0, turn=0.5, set_aside=0.1),
        proposals=ProposalTiming(retry=0.05),
        recheck=0.05,
    ),
    convictions=ConvictionTiming(turn=0.05, attempts=Backoff.every(0.05, most=6)),
)
"""What takes seconds in the field takes moments here."""
WORKING = WorkerTiming()
PAYING = RewardTiming(look=0.05)
FOLLOWING = FollowerTiming(poll=0.05, leaves=Backoff.every(0.05))
FETCHING = FetchTiming()
REGISTERED = RegistryTiming(pause=0.05)


def key_of(number: int) -> bytes:
    return hashlib.sha256(f"adversarial {number}".encode()).digest()


def named_model(store: Path, which: str) -> PreparedModel:
    """A model that nobody has to load."""
    manifest = Manifest.model_construct(layers=LAYERS, hidden_size=HIDDEN, dtype="float32")
    return PreparedModel(store, manifest)


def stored_models(store: Path) -> list[PreparedModel]:
    """The one that is in every worker's store."""
    return [PreparedModel(store, Manifest.model_construct(model_id=MODEL.hex()))]


class Words:
    """A tokenizer whose token 10 + i is written "<i>"."""

    eos_ids = (EOS,)
    special: ClassVar[dict[str, int]] = {}

    def encode_chat(self, messages: list[dict[str, str]]) -> list[int]:
        return [3, 4, 5]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(f"<{i - 10}>" for i in ids)


def planner(candidates: Sequence[Candidate], previous: GroupPlan | None) -> GroupPlan:
    if len(candidates) < 2:
        raise CannotPlan("two workers are needed")
    names = sorted(c.peer_id for c in candidates)[:2]
    return GroupPlan((StagePlan(names[0], 0, 10), StagePlan(names[1], 10, LAYERS)))


class Node:
    """One host with its context, before or after it got roles."""

    def __init__(
        self, context: NodeContext, chain: Any = None, source: EventSource | None = None
    ) -> None:
        self.context = context
        self.peer_id = context.peer_id
        self.address = context.address
        self.network: Network = context.network
        self.chain = chain
        blobs = BlobStore(context, FETCHING)
        self.registry: ChainRegistry | None = None
        self.follower: ChainFollower | NothingSettled = NothingSettled(blobs, context.wall)
        if chain is not None:
            self.registry = ChainRegistry(context, chain, REGISTERED)
            self.follower = ChainFollower(
                context,
                chain,
                source or Reader(chain.ledger),
                blobs,
                all_epochs=needs_all_epochs(context.config.roles),
                pays_by_work=True,
                confirmations=1,
                timing=FOLLOWING,
            )

    async def ask(self, peer_id: str, method: Method[Any, Any], body: Body | bytes) -> Any:
        """Send a body, or raw bytes in its place; the decoded map of the answer."""
        data = body if isinstance(body, bytes) else encode(body)
        answer = await self.network.request(
            peer_id, method.protocol, data, timeout=SECONDS, max_response=method.max_answer
        )
        return msgpack.unpackb(answer, use_list=False)

    async def refused(self, peer_id: str, method: Method[Any, Any], body: Body | bytes) -> str:
        """The code of the refusal that `body` meets."""
        try:
            await self.ask(peer_id, method, body)
        except RemoteRefused as exc:
            return exc.code
        raise AssertionError(f"{method.name} was answered")

    async def announce(self, *roles: str) -> None:
        record = NodeRecord(
            peer_id=self.peer_id,
            sequence=0,
            issued_at=0.0,
            expires_at=0.0,
            roles=roles,
            vram_bytes=1 << 30,
            layer_seconds=0.01,
        )
        await self.network.publish_record(record)


@asynccontextmanager
async def open_node(
    number: int,
    folder: Path,
    *,
    boot: Node | None = None,
    ledger: Ledger | None = None,
    source: EventSource | None = None,
    role: str = "worker",
    supervisor: Supervisor | None = None,
) -> AsyncIterator[Node]:
    """A host whose journal and blobs live in `folder`; with a ledger it is its own provider's, and
    its follower reads `source` (the ledger's events unless another is given)."""
    await trio.Path(folder / "blobs").mkdir(parents=True, exist_ok=True)
    key = key_of(number)
    address = address_of(key)
    config = NodeConfig.model_validate({"data_dir": folder, "roles": (role,)})
    if ledger is not None:
        ledger.owners.setdefault(address, address)
    bootstrap = boot.network.addresses if boot is not None else ()
    async with (
        open_network(NetworkConfig(network="test", bootstrap=bootstrap), key) as network,
        open_journal(folder / "journal.db") as journal,
    ):
        if boot is not None:
            await network.bootstrap(60)
        chain: Any = Chain(ledger, key, address) if ledger is not None else None
        yield Node(
            NodeContext(
                config=config,
                network_name="test",
                key=key,
                peer_id=network.peer_id,
                address=address,
                provider=address,
                network=network,
                journal=journal,
                receipt_domain=receipt_domain(chain),
                metrics=NodeMetrics(),
                engine_dir=folder,
                blobs=folder / "blobs",
                log=structlog.get_logger("test"),
                supervisor=supervisor or Supervisor(),
            ),
            chain,
            source,
        )


class DataPorts:
    """A data plane that believes whatever address it is told; nothing is ever dialled."""

    @asynccontextmanager
    async def ways(self, peer_id: str, answer: EdgeAnswer) -> AsyncIterator[tuple[Endpoint, ...]]:
        yield (Endpoint(host=answer.host, port=answer.port, fingerprint=answer.fingerprint),)

    async def run(
        self, listener_for: object, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        task_status.started()
        await trio.sleep_forever()


def make_worker(
    node: Node, engine: Engine, timing: WorkerTiming = WORKING, units_remembered: int = 4096
) -> Worker:
    device = Device("cpu", "test", 1 << 30)
    options = WorkerOptions(
        timing, PAYING, units_remembered, named_model, stored_models, DataPorts()
    )
    return build_worker(node.context, node.chain, engine, device, node.follower, options)  # type: ignore[arg-type]


def make_validator(
    node: Node,
    engine: Engine,
    timing: ValidatorTiming = VALIDATOR_TIMING,
    open_model: OpenModel = named_model,
) -> Validator:
    """A validator that is quick to try again, and whose model is only named."""
    context = node.context
    return open_validator(context, node.chain, engine, node.follower, timing, open_model)  # type: ignore[arg-type]


TIMING = OrchestratorTiming(ping=0.2, claim=Backoff(0.0, 0.0, most=3))
"""An orchestrator that looks often and asks again at once."""


def make_orchestrator(
    node: Node, policy: Policy | None = None, timing: OrchestratorTiming = TIMING
) -> Orchestrator:
    parts = parts_without_chain()
    if node.registry is not None:
        blocks = Blocks(node.context, node.chain, 1)
        parts = parts_on_chain(node.chain, node.registry, blocks, POOL, node.context.log)
    cutter = JobCutter(Words(), MODEL, "tiny", 512, 1, VOCAB)
    terms = GroupTerms(POOL, MODEL, "tiny", 4096, 256)
    return Orchestrator(
        node.context,
        Coordinator(
            policy or Policy(stages=2),
            planner,
            identity=node.peer_id.encode(),
            draw=random.Random(0).random,
        ),
        cutter,
        Builder(node.context, terms),
        parts,
        node.follower,
        timing,
    )


@asynccontextmanager
async def running(
    node: Node,
    *,
    worker: Worker | None = None,
    validator: Validator | None = None,
    orchestrator: Orchestrator | None = None,
) -> AsyncIterator[Roles]:
    """The node's roles served as `node.runtime` serves them, until the block is left."""
    pool_id = POOL if orchestrator else 0
    roles = Roles(node.follower, worker, validator, orchestrator, pool_id, node.registry)
    node.follower.wants = roles.wants
    async with trio.open_nursery() as nursery:
        await nursery.start(roles.run)
        yield roles
        nursery.cancel_scope.cancel()


async def until(orchestrator: Orchestrator, condition: Callable[[], bool]) -> None:
    """Wait for the orchestrator's tables to say so."""
    with trio.fail_after(SECONDS):
        while not condition():
            await orchestrator.changed.wait()


async def reached(orchestrator: Orchestrator, unit: Unit, state: UnitState) -> Unit:
    """The unit once it is in that state, in the tables or on disk."""
    with trio.fail_after(SECONDS):
        while True:
            changed = orchestrator.changed
            current = await orchestrator.unit(unit.unit_id)
            if current.state is state:
                return current
            await changed.wait()


async def eventually(condition: Callable[[], object]) -> None:
    """Wait for what nothing announces, looking again after every other task had its turn."""
    with trio.fail_after(SECONDS):
        while not condition():
            await trio.testing.wait_all_tasks_blocked(0.005)
