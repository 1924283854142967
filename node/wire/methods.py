"""What nodes ask of one another over libp2p request/response.

Each `Method` names a protocol `/prime/<name>/1`, the model of its request and the model of its
answer (`node.wire.messages`). Bodies are MessagePack maps that validate into frozen models with
bounded fields, so a handler only ever sees checked values. All methods are idempotent: a caller
that saw a timeout may ask again.

| method | from → to | what it does |
|---|---|---|
| ping | orchestrator → worker | liveness and load |
| invite | orchestrator → worker | a signed pool invite; answered once the worker has joined |
| load | orchestrator → worker | load a slice of the model for a stage of a group |
| ring | orchestrator → worker | connect the stage to its downstream neighbour |
| edge | stage → downstream stage | exchange pinned certificates and addresses of the data plane |
| assign | orchestrator → stage 0 | sequences to generate |
| progress | stage 0 → orchestrator | new tokens and finished sequences |
| trouble | worker → orchestrator | a broken data-plane edge or a dead engine |
| claim | orchestrator → stage | evidence and a countersigned receipt of a finished unit |
| countersign | stage → downstream stage | agreement: the second signature on a receipt |
| forget | orchestrator → stage | drop evidence that is no longer needed |
| verify | orchestrator → validator | the offer of a bundle to check: whose it is, what it costs |
| bundle | orchestrator → validator | the offered bundle, once the validator wants it |
| verdict | validator → orchestrator | the signed verdict |
| cosign | validator → validator | an epoch to sign: the root; its data are fetched by hash |
| convict | validator → validator | a conviction to sign |
| fetch | anyone → anyone | a part of an epoch's data or of revealed rows, by content hash |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from node.wire.messages.fields import MAX_BUNDLE, MAX_REPORT, MAX_VERDICT, Body, Done, StageRef
from node.wire.messages.settlement import (
    ConvictRequest,
    Cosigned,
    CosignRequest,
    FetchedChunk,
    FetchRequest,
)
from node.wire.messages.verification import (
    BundleUpload,
    ClaimAnswer,
    ClaimRequest,
    Countersigned,
    CountersignRequest,
    Forget,
    VerdictNotice,
    VerifyAnswer,
    VerifyRequest,
)
from node.wire.messages.work import (
    Assign,
    EdgeAnswer,
    EdgeRequest,
    Invite,
    Joined,
    LoadStage,
    Ping,
    Pong,
    Progress,
    StageLoaded,
    Trouble,
)

Q = TypeVar("Q", bound=Body)
A = TypeVar("A", bound=Body)


@dataclass(frozen=True)
class Method(Generic[Q, A]):
    """A request/response protocol: its name, body models and limits (bytes, seconds)."""

    name: str
    request: type[Q]
    answer: type[A]
    timeout: float = 10.0
    max_request: int = 1 << 20
    max_answer: int = 4096

    @property
    def protocol(self) -> str:
        """The libp2p protocol id."""
        return f"/prime/{self.name}/1"


PING = Method("ping", Ping, Pong, timeout=5.0, max_request=1024)
INVITE = Method("invite", Invite, Joined, timeout=120.0, max_request=4096)
LOAD = Method("load", LoadStage, StageLoaded, timeout=300.0)
RING = Method("ring", StageRef, Done, timeout=120.0, max_request=4096)
EDGE = Method("edge", EdgeRequest, EdgeAnswer, timeout=15.0, max_request=4096)
ASSIGN = Method("assign", Assign, Done, timeout=15.0, max_request=MAX_BUNDLE)
PROGRESS = Method("progress", Progress, Done, timeout=15.0, max_request=MAX_REPORT)
TROUBLE = Method("trouble", Trouble, Done, timeout=10.0, max_request=32768)
CLAIM = Method("claim", ClaimRequest, ClaimAnswer, timeout=60.0, max_answer=MAX_BUNDLE)
COUNTERSIGN = Method(
    "countersign",
    CountersignRequest,
    Countersigned,
    timeout=30.0,
    max_request=MAX_BUNDLE + 4096,
)
FORGET = Method("forget", Forget, Done, timeout=15.0)
VERIFY = Method("verify", VerifyRequest, VerifyAnswer, timeout=15.0, max_request=512)
BUNDLE = Method("bundle", BundleUpload, Done, timeout=60.0, max_request=MAX_BUNDLE + 4096)
VERDICT = Method("verdict", VerdictNotice, Done, timeout=15.0, max_request=MAX_VERDICT + 4096)
COSIGN = Method(
    "cosign", CosignRequest, Cosigned, timeout=60.0, max_request=8192, max_answer=1 << 20
)
CONVICT = Method("convict", ConvictRequest, Countersigned, timeout=15.0, max_request=8192)
FETCH = Method(
    "fetch", FetchRequest, FetchedChunk, timeout=20.0, max_request=512, max_answer=5 * 2**20
)
