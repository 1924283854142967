"""What the HTTP server asks of a running node, and the shapes it answers with.

`NodeView` is the whole seam: the server knows nothing of roles, peers or engines, and the runtime
nothing of HTTP. Methods answer from what the node holds, its memory or its disk; none waits for the
network. The models are what `/v1/*` serves as JSON: bytes as lower-case hex, times in unix seconds,
memory in bytes. Fields that a node does not know keep their defaults.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from node.prompts import Prompt

MAX_PAGE = 500


class Shape(BaseModel):
    """Base of all shapes: immutable, and closed to fields that nobody declared."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class PartInfo(Shape):
    """A background part of the node that a surprise ended at least once: "running" again, "failed"
    and begun again at `next_try`, or "ended". `surprises` counts all since the start."""

    name: str
    state: str
    surprises: int
    reason: str
    at: float = 0.0
    next_try: float = 0.0


class OwnStage(Shape):
    """A worker's own stage: its layers [first_layer, last_layer) of `layers`, the data port that
    its neighbours dial, the tokens (of prompts, too) a second that pass through it, and why it
    takes no new work, "" where it does. `neighbours` are the stages' peers in order."""

    group_id: str
    generation: int
    stage: int
    first_layer: int
    last_layer: int
    layers: int
    model: str
    data_port: int
    neighbours: tuple[str, ...] = ()
    tokens_per_second: float = 0.0
    busy: str = ""


class Status(Shape):
    """This node. `state` is the node machine's: starting, registered, serving, draining,
    stopped. `work` is a worker's: whose work it does, or what it was offered and why it waits.
    `stage` is what a worker holds, `claimed` what its provider was paid (10^-18 PRIME) by the last
    claim of this run. `disk` says why nothing new is taken, "" while all is well; `parts` had
    surprises."""

    peer_id: str
    address: str
    version: str
    network: str
    roles: tuple[str, ...]
    state: str
    started_at: float
    addresses: tuple[str, ...] = ()
    peers: int = 0
    pool_id: int = 0
    provider: str = ""
    engine_pid: int = 0
    engine_rss: int = 0
    work: str = ""
    stage: OwnStage | None = None
    claimed: int = 0
    disk: str = ""
    parts: tuple[PartInfo, ...] = ()


class NodeInfo(Shape):
    """A node as this one sees it. `state` is the orchestrator's view of it, or "seen"."""

    peer_id: str
    address: str = ""
    roles: tuple[str, ...] = ()
    state: str = "seen"
    device: str = ""
    vram_bytes: int = 0
    layer_seconds: float = 0.0
    location: tuple[float, float] | None = None
    region: str = ""
    last_seen: float = 0.0
    connected: bool = False
    rss: int = 0
    addresses: tuple[str, ...] = ()


class StageInfo(Shape):
    """Layers [first_layer, last_layer) at a peer; memory of its engine process in bytes."""

    stage: int
    peer_id: str
    first_layer: int
    last_layer: int
    weights_bytes: int = 0
    kv_bytes: int = 0
    rss: int = 0


class GroupInfo(Shape):
    """A pipeline group. `running` counts sequences in it that are being generated; `tokens` and
    `tokens_per_second` are the whole pool's."""

    group_id: str
    generation: int
    state: str
    model: str
    model_id: str = ""
    stages: tuple[StageInfo, ...] = ()
    spares: tuple[str, ...] = ()
    running: int = 0
    tokens: int = 0
    tokens_per_second: float = 0.0


class WorkInfo(Shape):
    """A work unit. `cursor` rises with every unit and is what paging goes by."""

    cursor: int
    unit_id: str
    state: str
    job_id: str = ""
    group_id: str = ""
    attempt: int = 0
    sequences: int = 0
    tokens: int = 0
    verdict: str = ""
    reason: str = ""
    epoch: int = 0
    transaction: str = ""


class Rejection(Shape):
    """Why a validator refused a unit, and whom it blames ("" and -1 where nobody is)."""

    unit_id: str
    at: float
    reason: str
    stage: int = -1
    peer_id: str = ""
    validator: str = ""


class Completion(Shape):
    """The answer to one prompt of a job, by the prompt's index in the job."""

    index: int
    id: str = ""
    text: str
    finish_reason: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    unit_id: str = ""
    state: str = ""


class PromptProblem(Shape):
    """A prompt of a job that was not taken or came to nothing, by its index in the job (from 0),
    and why."""

    index: int
    id: str = ""
    reason: str


class JobTaken(Shape):
    """A job that was accepted, now or earlier: how many of its prompts, how many were refused, and
    the first of these."""

    job_id: str
    accepted: int
    refused: int = 0
    refusals: tuple[PromptProblem, ...] = ()


class JobInfo(Shape):
    """`prompts` counts those that were taken, `refused` those that were not; they are numbered
    together. `accepted` counts completions whose unit a validator accepted, `failed` prompts that
    were given up; `error` is why, or ""; `waits` is what its work waits for, "" where it goes on.
    `results` and `failures` are those of one page of prompts; `next` is the index of the first
    prompt after it, None at the end."""

    job_id: str
    state: Literal["queued", "running", "finished", "failed", "cancelled"]
    prompts: int
    refused: int = 0
    completed: int = 0
    accepted: int = 0
    failed: int = 0
    tokens: int = 0
    waits: str = ""
    error: str = ""
    results: tuple[Completion, ...] = ()
    failures: tuple[PromptProblem, ...] = ()
    next: int | None = None


class JobRequest(Shape):
    """A checked job. The same prompts under the same `key` are the same job (the second submit
    changes nothing)."""

    prompts: Annotated[tuple[Prompt, ...], Field(min_length=1, max_length=100_000)]
    key: Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9._:-]*$")] = ""


class PrunedInfo(Shape):
    """One kind of thing on the disk. `removed` and `kept` count things, `freed` and `left` bytes
    (0: unknown); `why` says why what is kept stays."""

    what: str
    removed: int
    freed: int
    kept: int
    left: int
    why: str


@dataclass
class JobRefused(Exception):
    """Raised by `submit`: the node takes no such job. `status` is the HTTP status to answer with;
    `refused` counts prompts that cannot be run, `refusals` lists the first of them.

    Codes in use: "not_orchestrator" (409), "busy" (503), "too_many_prompts" (422), "draining"
    (503), "bad_prompt" (422), "key_taken" (422), "no_storage" (507).
    """

    code: str
    message: str
    status: int = 409
    refused: int = 0
    refusals: tuple[PromptProblem, ...] = ()

    def __str__(self) -> str:
        return self.message


class NodeView(Protocol):
    """What a running node shows of itself. Implemented by the runtime."""

    async def status(self) -> Status:
        """This node."""
        ...

    async def health(self) -> tuple[bool, Sequence[str]]:
        """(ready, why not)."""
        ...

    async def nodes(self) -> Sequence[NodeInfo]:
        """Every node whose record is here."""
        ...

    async def groups(self) -> Sequence[GroupInfo]:
        """The pool's groups; none where this node is no orchestrator."""
        ...

    async def work(self, after: int, limit: int) -> Sequence[WorkInfo]:
        """Units with cursor > `after`, rising, at most `limit`."""
        ...

    async def newest_work(self, limit: int) -> tuple[Sequence[WorkInfo], int]:
        """The newest units, rising, at most `limit`; and how many there are in all."""
        ...

    async def rejections(self) -> Sequence[Rejection]:
        """The newest ones, newest first; the node bounds how many."""
        ...

    async def submit(self, job: JobRequest, all_or_nothing: bool) -> JobTaken:
        """Accept a job durably, without the prompts that cannot be run, or with all or not at all.
        Raises `JobRefused`."""
        ...

    async def submit_stream(
        self, lines: AsyncIterable[bytes], key: str, all_or_nothing: bool
    ) -> JobTaken:
        """The same of a job whose prompts come as lines of JSON, of any number."""
        ...

    async def cancel(self, job_id: str) -> bool:
        """Begin nothing more of a job, durably; False where there is none of that id."""
        ...

    async def prune(self, *, dry: bool) -> Sequence[PrunedInfo]:
        """Remove from the disk what nobody needs any more, or with `dry` only say what that is."""
        ...

    async def job(self, job_id: str, first: int, limit: int) -> JobInfo | None:
        """The job as it stands, with the results of at most `limit` prompts from number `first`
        on; None where there is none of that id."""
        ...

    async def dataset(self, job_id: str) -> AsyncIterator[Sequence[dict[str, Any]]] | None:
        """One row for each accepted completion so far, in the order of the prompts, page by page;
        None where there is no such job."""
        ...
