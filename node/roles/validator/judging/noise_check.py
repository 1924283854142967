"""Is the noise of a bundle as random as the bundle claims?

`proofs.verdict.judge` checks that every noise key follows from its beacon. Whether a beacon is the
hash of the block that it names, only the chain can tell. Whoever assembled the bundle vouches for
its beacons, so a false one rejects the unit and blames no stage.

A block that this node's endpoint does not have yet, or not deep enough, is not a fault: ask again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from chain.errors import ChainError
from node.onchain.blocks import Blocks
from proofs.evidence.bundle import UnitBundle
from proofs.evidence.sequence import NoiseSource
from proofs.verdict.findings import Findings
from proofs.verdict.message import Verdict

MAX_BLOCKS = 16
"""Different blocks that a unit may name; each costs a question to the chain. A job has one."""


class NoiseFault(StrEnum):
    """Why a bundle's noise is not what the bundle claims."""

    NO_CHAIN = "names a block, and this network has no chain"
    OTHER_REQUEST = "its noise is for another request than the sequence"
    LATER_BLOCK = "its noise is of a later block than the one at which its work was signed"
    MANY_BLOCKS = "names too many blocks"
    OTHER_HASH = "its beacon is not the hash of its block"


@dataclass(frozen=True)
class NoiseCheck:
    """What came of a check. `fault` is the first one found, in the sequence at `index`; None where
    there is none so far. `unknown` says what could not be determined yet, "" where nothing is left
    open."""

    fault: NoiseFault | None = None
    index: int = 0
    unknown: str = ""

    @property
    def reason(self) -> str:
        """The fault in a verdict's words, "" without one."""
        return "" if self.fault is None else f"sequence {self.index}: {self.fault.value}"


async def check_beacons(bundle: UnitBundle, blocks: Blocks) -> NoiseCheck:
    """Compare a bundle's beacons with the hashes of the blocks that they name."""
    hashes: dict[int, bytes] = {}
    for index, source in _beacons(bundle):
        if fault := _form_fault(bundle, index, source):
            return NoiseCheck(fault, index)
        if source.block not in hashes:
            if len(hashes) == MAX_BLOCKS:
                return NoiseCheck(NoiseFault.MANY_BLOCKS, index)
            try:
                found = await blocks.hash_of(source.block)
            except ChainError as exc:
                return NoiseCheck(unknown=str(exc))
            if found is None:
                return NoiseCheck(unknown=f"block {source.block} is not deep enough yet")
            hashes[source.block] = found
        if hashes[source.block] != source.beacon:
            return NoiseCheck(NoiseFault.OTHER_HASH, index)
    return NoiseCheck()


def check_without_chain(bundle: UnitBundle) -> NoiseCheck:
    """The check in a network that has no blocks, so that nobody can name one."""
    for index, _ in _beacons(bundle):
        return NoiseCheck(NoiseFault.NO_CHAIN, index)
    return NoiseCheck()


def refusal(bundle: UnitBundle, check: NoiseCheck) -> Verdict:
    """The verdict on a bundle whose noise has a fault: rejected, and nobody is to blame."""
    return Findings(bundle, [None] * len(bundle.sequences)).unattributed(check.reason)


def _beacons(bundle: UnitBundle) -> Iterator[tuple[int, NoiseSource]]:
    """The index and the noise of every sampled sequence whose noise follows from a block."""
    for index, sequence in enumerate(bundle.sequences):
        source = sequence.noise
        if source is not None and source.block and sequence.request.sampling.temperature > 0.0:
            yield index, source


def _form_fault(bundle: UnitBundle, index: int, source: NoiseSource) -> NoiseFault | None:
    """A fault that needs no block to be seen."""
    if source.request_id != bundle.sequences[index].sequence_id:
        return NoiseFault.OTHER_REQUEST
    if bundle.committed_at and source.block > bundle.committed_at:
        return NoiseFault.LATER_BLOCK
    return None
