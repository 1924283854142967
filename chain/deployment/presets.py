"""Named sets of deployment parameters, in one table, and changes to them.

Pure. A preset for a public chain names that chain, so that its terms cannot end up elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from typing import Any, Final

from chain.deployment.parameters import TOKEN, DeploymentParams
from chain.errors import InvalidInput

HOUR = 3_600
DAY = 24 * HOUR

_AMOUNTS = frozenset({"initial_supply", "base_stake", "stake_per_unit", "bond"})
_TEXTS = frozenset({"treasury", "domain_name"})
_TOKENS = re.compile(r"(\d+(?:\.\d{1,18})?) PRIME")


@dataclass(frozen=True)
class Preset:
    """Parameters for a kind of chain.

    `chain_id` None is any. `needs_treasury`: whoever deploys must say where slashed tokens go.
    `confirmations` make a transaction final; `poll` is the number of seconds between two looks at
    the chain.
    """

    name: str
    params: DeploymentParams
    chain_id: int | None
    needs_treasury: bool
    confirmations: int
    poll: float


DEVELOPMENT = Preset("development", DeploymentParams(), None, False, 1, 0.2)

BASE_SEPOLIA = Preset(
    "base-sepolia",
    DeploymentParams(
        # Enough for a few thousand providers and their pools; the owner can mint more.
        initial_supply=100_000_000 * TOKEN,
        # A provider's nodes are worth staking for, and newcomers can still afford it: a node of 8
        # units needs 180 tokens. The base keeps one machine from posing as many providers.
        base_stake=100 * TOKEN,
        stake_per_unit=10 * TOKEN,
        # People look at a test network once a day. A day to examine a root, and half a day to
        # answer, outlast a night and a machine that is down.
        challenge_window=DAY,
        answer_window=12 * HOUR,
        # Well beyond both windows: a question asked in the last minute, with its answer, takes 36
        # hours, and what a faulty signer has asked for must still be there.
        unbonding_period=7 * DAY,
        # Two thirds of the stake, rounded so that two of three equal validators are enough.
        quorum=6_666,
        # Half of it goes to whoever answers. It must far outweigh the gas of an answer, or
        # questions would be a cheap way to hold up payments; a challenger who is right gets it
        # back.
        bond=50 * TOKEN,
        # A root that nobody can answer for is hardly signed by accident: half of the tokens. An
        # honest worker on unusual hardware may be convicted by mistake: a tenth.
        signer_slash=5_000,
        conviction_slash=1_000,
        # No fault of one day, or of one bug, takes more than half.
        slash_cap=5_000,
        # Enough to pay for watching; a signer who informs on itself still loses four fifths.
        bounty_share=2_000,
        # The last epochs of an ended pool can be posted, disputed and answered before the rest of
        # its budget goes back.
        reclaim_delay=7 * DAY,
    ),
    chain_id=84_532,
    needs_treasury=True,
    # Blocks come every 2 s from one sequencer; its rare reorganisations are a few blocks deep.
    confirmations=5,
    poll=2.0,
)

PRESETS: Final = {preset.name: preset for preset in (DEVELOPMENT, BASE_SEPOLIA)}


def find_preset(name: str) -> Preset:
    """A preset by name; raises InvalidInput that lists them."""
    preset = PRESETS.get(name)
    if preset is None:
        raise InvalidInput(f"no preset {name!r}; there are {', '.join(PRESETS)}")
    return preset


def changed(preset: Preset, table: Mapping[str, Any]) -> DeploymentParams:
    """The preset's parameters, overridden by those of `table`, and checked.

    An amount is a whole number of units of 1e-18 or text like "12.5 PRIME". Raises InvalidInput
    naming the parameter.
    """
    known = {field.name for field in fields(DeploymentParams)}
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            raise InvalidInput(f"no parameter {name!r}; there are {', '.join(sorted(known))}")
        values[name] = _read(name, value)
    params = replace(preset.params, **values)
    params.check()
    return params


def check_chain(preset: Preset, params: DeploymentParams, chain_id: int) -> None:
    """Whether `params`, made from `preset`, may go to a chain; raises InvalidInput."""
    if preset.chain_id not in (None, chain_id):
        raise InvalidInput(
            f"preset {preset.name} is for chain {preset.chain_id}, but the endpoint serves "
            f"{chain_id}; give the RPC of that chain, or another preset"
        )
    if preset.needs_treasury and params.treasury is None:
        raise InvalidInput(
            f"preset {preset.name} needs a treasury, to which slashed tokens go: "
            'put treasury = "0x…" into the parameters file'
        )


def _read(name: str, value: object) -> object:
    if name in _TEXTS:
        if not isinstance(value, str):
            raise InvalidInput(f"{name} is text, not {value!r}")
        return value
    if name in _AMOUNTS and isinstance(value, str):
        found = _TOKENS.fullmatch(value)
        if found is None:
            raise InvalidInput(f'{name}: an amount is like "12.5 PRIME", not {value!r}')
        return int(Decimal(found[1]) * TOKEN)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidInput(f"{name} is a whole number, not {value!r}")
    return value
