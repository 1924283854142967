"""Taking bundles in: authority first, then bytes, then work.

A bundle comes in two steps. The offer is small and says whose the bundle is and what it will cost;
it is looked into only after the chain has said that its sender owns the pool. If the validator has
room it reserves it and asks for the bundle; an upload that was not offered is refused by its
sender's peer id alone, before it is decoded. What was uploaded is hashed, decoded and checked in a
thread (one at a time, and the time is charged to its sender): it must be what was offered, and its
claims must carry their signatures. Only then is it written to disk and journaled, and only then is
its sender told that it was taken.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, Protocol

import trio

from node.context import NodeContext
from node.errors import InputError
from node.roles.validator.bundle_state import QueueLimits, Taken
from node.roles.validator.intake.authority import Authority
from node.roles.validator.intake.checks import BadBundle, NotAsOffered, check_upload
from node.roles.validator.intake.offers import Offer, OfferLimits, Offers
from node.roles.validator.journal_events import BundleTaken
from node.roles.validator.keeping.store import BundleStore, NoRoom
from node.storage.intake import require_storage
from node.wire.messages.fields import Done
from node.wire.messages.verification import BundleUpload, VerifyAnswer, VerifyRequest
from node.wire.methods import BUNDLE, VERIFY
from node.wire.rpc import serve
from p2p.errors import Refused
from pipeline.models.errors import ModelError
from proofs.evidence.bundle import UnitBundle


class Desk(Protocol):
    """What the intake asks the validator, and what it tells it."""

    def has_room(self, sender: str, size: int, tokens: int) -> bool:
        """Whether the queue takes another bundle of this sender."""
        ...

    def is_owed(self, bundle_id: bytes) -> bool:
        """Whether the bundle is on its way to a verdict."""
        ...

    async def settled_already(self, offer: Offer) -> bool:
        """Whether there is a verdict on the bundle; then it is delivered again. Raises `Refused`
        where there will be none."""
        ...

    async def newest_block(self) -> int:
        """The chain's newest block, 0 where that is unknown."""
        ...

    def take(self, taken: Taken) -> None:
        """A bundle is on disk and journaled."""
        ...


class Intake:
    """Answers `verify` and `bundle`."""

    def __init__(
        self,
        context: NodeContext,
        authority: Authority,
        store: BundleStore,
        find_model: Callable[[bytes], Any],
        desk: Desk,
        queue: QueueLimits,
        limits: OfferLimits | None = None,
    ) -> None:
        self._context = context
        self._authority = authority
        self._store = store
        self._find_model = find_model
        self._desk = desk
        self._queue = queue
        self._offers = Offers(limits)
        self._decoding = trio.CapacityLimiter(1)
        self._taking: set[bytes] = set()

    @property
    def taking(self) -> Collection[bytes]:
        """Bundles that are being written and journaled."""
        return tuple(self._taking)

    def serve(self) -> None:
        """Register the handlers."""
        network = self._context.network
        serve(network, VERIFY, self.on_verify)
        serve(network, BUNDLE, self.on_bundle, self.require_offer)

    def require_offer(self, peer_id: str) -> None:
        """Raise `Refused` unless an upload of this peer is expected."""
        self._offers.require_any(peer_id, self._context.now())

    async def on_verify(self, peer_id: str, request: VerifyRequest) -> VerifyAnswer:
        """Look at an offer. Raises `Refused`."""
        require_storage(self._context.journal)
        await self._authority.require_sender(peer_id, request.pool_id)
        offer = Offer(peer_id, **dict(request))
        if self._desk.is_owed(offer.bundle_id) or await self._desk.settled_already(offer):
            return VerifyAnswer(wanted=False)
        if offer.tokens > self._queue.bundle_tokens:
            raise Refused("too_large", f"a bundle has at most {self._queue.bundle_tokens} tokens")
        self._require_room(offer)
        self._offers.reserve(offer, self._context.now())
        return VerifyAnswer(wanted=True)

    async def on_bundle(self, peer_id: str, upload: BundleUpload) -> Done:
        """Take a bundle that was offered. Raises `Refused`."""
        now, content = self._context.now, upload.bundle
        offer = self._offers.begin(peer_id, upload.bundle_id, len(content), now())
        try:
            if self._desk.is_owed(offer.bundle_id):
                return Done()
            await self._check(offer, content)
            self._require_room(offer)
            await self._take(offer, content)
        finally:
            self._offers.end(offer)
        return Done()

    def _require_room(self, offer: Offer) -> None:
        if not self._desk.has_room(offer.sender, offer.size, offer.tokens):
            raise Refused("busy", "too many bundles wait; ask again")

    async def _check(self, offer: Offer, content: bytes) -> None:
        """Everything that takes no engine."""
        domain, spent = self._context.receipt_domain, 0.0

        def check() -> UnitBundle:
            nonlocal spent
            started = time.thread_time()
            try:
                return check_upload(content, offer, domain)
            finally:
                spent = time.thread_time() - started

        try:
            bundle = await trio.to_thread.run_sync(check, limiter=self._decoding)
            await trio.to_thread.run_sync(self._find_model, bundle.model_id)
        except NotAsOffered as exc:
            self._offers.penalize(offer.sender, self._context.now())
            raise Refused("bad_bundle", str(exc)) from exc
        except BadBundle as exc:
            raise Refused("bad_bundle", str(exc)) from exc
        except ModelError as exc:
            raise Refused("no_model", f"I cannot judge that model: {exc}"[:400]) from exc
        finally:
            self._offers.charge(offer.sender, spent, self._context.now())
            self._context.network.charge(offer.sender, spent)

    async def _take(self, offer: Offer, content: bytes) -> None:
        bundle_id = offer.bundle_id
        if bundle_id in self._taking:
            raise Refused("busy", "that bundle is being taken")
        self._taking.add(bundle_id)
        try:
            await self._store.put(bundle_id, content)
            block = await self._desk.newest_block()
            taken = Taken(bundle_id, offer.sender, block, offer.size, offer.tokens)
            await self._context.journal.record(
                BundleTaken(
                    bundle_id=bundle_id,
                    sender=offer.sender,
                    block=block,
                    size=offer.size,
                    tokens=offer.tokens,
                )
            )
            if not self._desk.is_owed(bundle_id):
                self._desk.take(taken)
        except (NoRoom, InputError) as exc:
            raise Refused("no_storage", str(exc)) from exc
        finally:
            self._taking.discard(bundle_id)
