"""Is an uploaded bundle what was offered, and do its claims bind? All that needs no model.

Runs in a thread: hashing and decoding megabytes takes long. What does not pass is never written to
disk, let alone replayed.
"""

from __future__ import annotations

import hashlib

from node.roles.validator.intake.offers import Offer
from node.wire.peer_addresses import address_of_peer
from proofs.encoding.eip712 import Domain
from proofs.errors import ProofError
from proofs.evidence.bundle import MAX_BUNDLE_BYTES, UnitBundle, check_claims
from proofs.evidence.sequence import ROWS_PER_PROOF

PROOF_BYTES = 258
MAX_PROOFS = MAX_BUNDLE_BYTES // PROOF_BYTES
"""Proofs that fit into a bundle. One that claims work for more has left some out, and measuring
what is missing takes memory, too."""


class NotAsOffered(Exception):
    """The sender offered another bundle than it sent, which it must know."""


class BadBundle(Exception):
    """The bundle cannot be judged at all."""


def check_upload(content: bytes, offer: Offer, domain: Domain) -> UnitBundle:
    """The bundle in `content`. Raises `NotAsOffered` and `BadBundle`."""
    if hashlib.sha256(content).digest() != offer.bundle_id:
        raise NotAsOffered("the bytes are not of the hash that was offered")
    try:
        bundle = UnitBundle.from_bytes(content)
    except ProofError as exc:
        raise NotAsOffered(str(exc)) from exc
    require_as_offered(bundle, offer)
    require_own_claims(bundle)
    if reason := check_claims(bundle, domain):
        raise BadBundle(reason)
    chunks = sum(-(-len(s.output_ids) // ROWS_PER_PROOF) for s in bundle.sequences)
    if chunks * len(bundle.stages) > MAX_PROOFS:
        raise BadBundle("its proofs would not fit into it")
    return bundle


def require_as_offered(bundle: UnitBundle, offer: Offer) -> None:
    """Raises `NotAsOffered`; `BadBundle` where it is no one pool's."""
    tokens = sum(sequence.token_count for sequence in bundle.sequences)
    if bundle.unit_id != offer.unit_id:
        raise NotAsOffered("it is of another unit than was offered")
    if tokens != offer.tokens:
        raise NotAsOffered(f"it has {tokens} tokens where {offer.tokens} were offered")
    pools = {claim.receipt.pool_id for claim in bundle.stages if claim.receipt is not None}
    if len(pools) != 1:
        raise BadBundle("its receipts must be for one pool")
    if pools != {offer.pool_id}:
        raise NotAsOffered("its receipts are for another pool than was offered")


def require_own_claims(bundle: UnitBundle) -> None:
    """Raise `BadBundle` unless the peer id and the address of every claim belong to one node, and
    all claims are of the bundle's generation: what a stage signed in one says nothing about
    another."""
    for stage, claim in enumerate(bundle.stages):
        if address_of_peer(claim.peer_id) != claim.address:
            raise BadBundle(f"stage {stage}: the peer id is another address's")
        if claim.receipt is not None and claim.receipt.seq != bundle.generation:
            raise BadBundle(f"stage {stage}: the receipt is of another generation")
