"""What `chain verify` looks at: a deployment as it was made, and one that was tampered with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chain.deployment.verification import check_deployment
from chain.deployment.wiring import FEDERATOR, LABELS, NETWORK, selectors
from chain.encoding.artifacts import load_artifact
from tests.chain.conftest import World


@pytest.mark.each_chain
async def test_a_fresh_deployment_holds(world: World) -> None:
    client = await world.client()
    checks = await check_deployment(client.rpc, world.deployment)
    assert [check.what for check in checks if not check.holds] == []
    assert len(checks) == len({check.what for check in checks}) > 30


async def test_what_was_changed_is_named(world: World) -> None:
    owner = await world.client(world.owner_key)
    at = world.deployment.address

    async def administer(function: str, *args: object) -> None:
        await owner.caller.once(function, "PrimeAccess", function, *args)

    await administer(
        "setTargetFunctionRole", at("StakeManager"), selectors("StakeManager", ("slash",)), 1
    )
    await administer("revokeRole", NETWORK, at("PrimeNetwork"))
    await administer("setTargetClosed", at("ComputeRegistry"), True)
    checks = await check_deployment(owner.rpc, world.deployment)
    failed = {check.what: check.found for check in checks if not check.holds}
    assert failed == {
        "SLASHER may slash on StakeManager": f"slash belongs to role {LABELS[FEDERATOR]}",
        "PrimeNetwork is NETWORK": "it is not",
        "ComputeRegistry is open": "it is closed",
    }
    moved = world.deployment.addresses | {
        "PrimeToken": at("PrimeAccess"),
        "ComputePool": "0x" + "11" * 20,
    }
    checks = await check_deployment(
        owner.rpc, replace(world.deployment, chain_id=1, addresses=moved)
    )
    assert {check.what: check.found for check in checks if not check.holds} == {
        "chain 1": "31337",
        "PrimeToken has this version's code": "other code",
        "ComputePool has this version's code": "no code",
    }


def test_roles_are_named_as_the_contract_names_them() -> None:
    constants = load_artifact("PrimeAccess").abi.functions
    assert all(label in constants for label in LABELS.values())


async def test_role_numbers_are_the_contracts(world: World) -> None:
    client = await world.client()
    for role, label in LABELS.items():
        assert await client.caller.read("PrimeAccess", label) == role
