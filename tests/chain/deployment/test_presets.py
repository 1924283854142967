"""Presets, changes to them, and parameters that are refused before anything is spent."""

from __future__ import annotations

from dataclasses import fields

import pytest

from chain.deployment.parameters import TOKEN, DeploymentParams
from chain.deployment.presets import PRESETS, changed, check_chain, find_preset
from chain.errors import InvalidInput

SAFE = "0x" + "11" * 20


@pytest.mark.parametrize("preset", PRESETS.values(), ids=list(PRESETS))
def test_presets_are_sound(preset) -> None:
    preset.params.check()
    assert find_preset(preset.name) is preset
    assert preset.params.reclaim_delay > preset.params.challenge_window
    assert preset.params.bond > 0


def test_a_public_preset_stays_on_its_chain_and_wants_a_treasury() -> None:
    preset = find_preset("base-sepolia")
    with pytest.raises(InvalidInput, match="needs a treasury"):
        check_chain(preset, changed(preset, {}), 84_532)
    params = changed(preset, {"treasury": SAFE})
    check_chain(preset, params, 84_532)
    with pytest.raises(InvalidInput, match="chain 84532, but the endpoint serves 1;"):
        check_chain(preset, params, 1)
    development = find_preset("development")
    check_chain(development, changed(development, {}), 1)
    with pytest.raises(InvalidInput, match="development, base-sepolia"):
        find_preset("mainnet")


def test_amounts_are_units_or_tokens() -> None:
    preset = find_preset("development")
    made = changed(preset, {"bond": "2.5 PRIME", "base_stake": 7, "domain_name": "x"})
    assert (made.bond, made.base_stake, made.domain_name) == (5 * TOKEN // 2, 7, "x")
    assert changed(preset, {"bond": "0.000000000000000001 PRIME"}).bond == 1


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"bonds": 1}, "no parameter 'bonds'; there are .*bond"),
        ({"bond": "2 ETH"}, 'like "12.5 PRIME"'),
        ({"bond": "-1 PRIME"}, 'like "12.5 PRIME"'),
        ({"bond": 1.5}, "bond is a whole number"),
        ({"bond": True}, "bond is a whole number"),
        ({"bond": -1}, "bond -1: choose 0 to"),
        ({"quorum": 5_000}, "quorum 5000: choose 5001 to 10000"),
        ({"bounty_share": 5_001}, "bounty_share"),
        ({"quorum": "6000"}, "quorum is a whole number"),
        ({"challenge_window": 50}, "unbonding_period 60 must be longer"),
        ({"treasury": "0x12"}, "treasury: expected 20 bytes"),
        ({"treasury": 5}, "treasury is text"),
        ({"domain_name": "é" * 33}, "1 to 64 bytes"),
    ],
)
def test_what_is_refused_is_named(table: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        changed(find_preset("development"), table)


def test_every_number_has_a_range() -> None:
    for field in fields(DeploymentParams):
        if field.type == "int":
            with pytest.raises(InvalidInput, match=f"{field.name} -1"):
                DeploymentParams(**{field.name: -1}).check()
