"""Dishonest stages, on purpose; each deviates from honest conduct in one place.

- `null-proofs` proves nothing;
- `garbage-hidden` alters what it sends after proving and hashing it;
- `garbage-signed` hashes the altered rows as well, so only its proof is of the right ones;
- `quiet-garbage` does so too, but leaves each row's largest values, which a proof covers, alone;
- `wrong-seed` samples with other noise.

The last stage sends no rows, so altering them does nothing there.
"""

from __future__ import annotations

import torch

from pipeline.runner.conduct import StageConduct
from proofs.sampling.settings import SamplingSettings
from proofs.toploc import TOPK

_OTHER_KEY = 0x9E3779B97F4A7C15


class DishonestStage(StageConduct):
    """Base of all conduct that deviates."""


class NullProofs(DishonestStage):
    """Gives proofs of the right length that hold zeros."""

    def prove(self, rows: torch.Tensor) -> bytes:
        """Zeros."""
        return bytes(len(super().prove(rows)))


class GarbageHidden(DishonestStage):
    """Sends altered rows and signs for the right ones."""

    def outgoing(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Altered rows, and the right ones."""
        return altered(rows, quiet=False), rows


class GarbageSigned(DishonestStage):
    """Sends altered rows and signs for them."""

    quiet = False

    def outgoing(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The same altered rows twice."""
        garbage = altered(rows, quiet=self.quiet)
        return garbage, garbage


class QuietGarbage(GarbageSigned):
    """Alters only values that no proof covers."""

    quiet = True


class WrongSeed(DishonestStage):
    """Samples with noise of another key than it was told."""

    def sampling(self, told: SamplingSettings) -> SamplingSettings:
        """With another noise key."""
        return told.model_copy(update={"noise_key": told.noise_key ^ _OTHER_KEY})


STAGES: dict[str, type[DishonestStage]] = {
    "null-proofs": NullProofs,
    "garbage-hidden": GarbageHidden,
    "garbage-signed": GarbageSigned,
    "quiet-garbage": QuietGarbage,
    "wrong-seed": WrongSeed,
}
"""The conduct that a fault names."""


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
