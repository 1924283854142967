"""Dishonest stages, on purpose; each deviates from the honest `Stage` in one place.

- `null-proofs` proves nothing;
- `garbage-hidden` alters what it sends after proving and hashing it;
- `garbage-signed` hashes the altered rows as well, so only its proof is of the right ones;
- `quiet-garbage` does so too, but leaves each row's largest values, which a proof covers, alone;
- `wrong-seed` samples with other noise.

The last stage sends no rows, so altering them does nothing there.
"""

from __future__ import annotations

import torch

from pipeline.engine.evidence.collecting import prove_chunk
from pipeline.engine.ring.batch import Item
from pipeline.engine.ring.stage import Stage, raw_bytes
from proofs.sampling.settings import SamplingSettings
from proofs.toploc import TOPK

_OTHER_KEY = 0x9E3779B97F4A7C15


class DishonestStage(Stage):
    """Base of all stages that deviate."""


class NullProofsStage(DishonestStage):
    """Gives proofs of the right length that hold zeros."""

    def prove(self, rows: torch.Tensor) -> bytes:
        """See the class."""
        return bytes(len(prove_chunk(rows)))


class GarbageHiddenStage(DishonestStage):
    """Sends altered rows and signs for the right ones."""

    def outgoing(self, rows: torch.Tensor) -> tuple[memoryview, memoryview]:
        """See the class."""
        return raw_bytes(altered(rows, quiet=False)), raw_bytes(rows)


class GarbageSignedStage(DishonestStage):
    """Sends altered rows and signs for them."""

    quiet = False

    def outgoing(self, rows: torch.Tensor) -> tuple[memoryview, memoryview]:
        """See the class."""
        garbage = raw_bytes(altered(rows, quiet=self.quiet))
        return garbage, garbage


class QuietGarbageStage(GarbageSignedStage):
    """Alters only values that no proof covers."""

    quiet = True


class WrongSeedStage(DishonestStage):
    """Samples with noise of another key than it was told."""

    def sampling_of(self, item: Item) -> SamplingSettings:
        """See the class."""
        told = super().sampling_of(item)
        return told.model_copy(update={"noise_key": told.noise_key ^ _OTHER_KEY})


STAGES: dict[str, type[DishonestStage]] = {
    "null-proofs": NullProofsStage,
    "garbage-hidden": GarbageHiddenStage,
    "garbage-signed": GarbageSignedStage,
    "quiet-garbage": QuietGarbageStage,
    "wrong-seed": WrongSeedStage,
}
"""The stage that has the fault of this name."""


def altered(rows: torch.Tensor, quiet: bool) -> torch.Tensor:
    """What a dishonest stage makes of its rows [N, H].

    With `quiet` only each row's smaller values change, and the garbage stays below the others, so
    that a proof's points are found where they were.
    """
    if not quiet:
        return rows + torch.randn_like(rows) * rows.std()
    magnitude = rows.abs()
    # Half of a small model's row is left to alter, where TOPK would be all of it.
    cutoff = magnitude.topk(min(TOPK, rows.shape[1] // 2), dim=1).values[:, -1:]
    garbage = (torch.rand_like(rows) * 2 - 1) * cutoff * 0.9
    return torch.where(magnitude >= cutoff, rows, garbage)
