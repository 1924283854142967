"""What the contracts are constructed with, checked before any money is spent.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from chain.encoding.hexdata import parse_address
from chain.errors import InvalidInput

TOKEN = 10**18
WHOLE = 10_000
"""All of it, in basis points."""
MAX_NAME_BYTES = 64


@dataclass(frozen=True)
class DeploymentParams:
    """What the contracts are constructed with.

    Amounts are in token units of 1e-18, times in seconds, shares in basis points: `slash_cap` of a
    provider's tokens a day, `bounty_share` of what is slashed, `quorum` of the validators' stake,
    `signer_slash` and `conviction_slash` of the tokens of whoever signed a void root or was
    convicted. `treasury` None is the deployer. The defaults suit a development chain: everything
    takes seconds.
    """

    initial_supply: int = 1_000_000_000 * TOKEN
    treasury: str | None = None
    unbonding_period: int = 60
    base_stake: int = 10 * TOKEN
    stake_per_unit: int = TOKEN
    slash_cap: int = 5_000
    bounty_share: int = 2_000
    reclaim_delay: int = 60
    quorum: int = 6_666
    challenge_window: int = 2
    answer_window: int = 10
    bond: int = TOKEN
    signer_slash: int = 5_000
    conviction_slash: int = 1_000
    domain_name: str = "inference"

    def check(self) -> None:
        """Refuse what the contracts would refuse, before the first of them is there.

        Raises InvalidInput naming the parameter.
        """
        for name, least, most in _RANGES:
            value = getattr(self, name)
            if not least <= value <= most:
                raise InvalidInput(f"{name} {value}: choose {least} to {most}")
        if self.challenge_window + self.answer_window >= self.unbonding_period:
            raise InvalidInput(
                f"unbonding_period {self.unbonding_period} must be longer than challenge_window "
                f"and answer_window together ({self.challenge_window} + {self.answer_window}), or "
                "signers could leave before a fault is proved"
            )
        if not 0 < len(self.domain_name.encode()) <= MAX_NAME_BYTES:
            raise InvalidInput(f"domain_name: 1 to {MAX_NAME_BYTES} bytes")
        if self.treasury is not None:
            try:
                parse_address(self.treasury)
            except ValueError as exc:
                raise InvalidInput(f"treasury: {exc}") from exc


_RANGES = (
    ("initial_supply", 0, 2**128 - 1),
    ("unbonding_period", 1, 2**32),
    ("base_stake", 0, 2**128 - 1),
    ("stake_per_unit", 0, 2**96 - 1),
    ("slash_cap", 0, WHOLE),
    ("bounty_share", 0, WHOLE // 2),
    ("reclaim_delay", 0, 2**32),
    ("quorum", WHOLE // 2 + 1, WHOLE),
    ("challenge_window", 0, 2**32),
    ("answer_window", 0, 2**32),
    ("bond", 0, 2**128 - 1),
    ("signer_slash", 0, WHOLE),
    ("conviction_slash", 0, WHOLE),
)
"""Parameter, least and most. Amounts and times are bounded where a sum of them could overflow."""
