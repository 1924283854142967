"""`stake`, and registering a node whose key is on another machine, on a real chain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from node.config.keystore import load_key
from node.onchain.amounts import UNIT
from node.onchain.consent import Consent
from node.onchain.registration import Provider, register_worker
from tests.node.cli.conftest import UNBONDING, OnChain


async def new_key(onchain: OnChain, folder: Path, *which: str) -> str:
    made = await onchain.json("wallet", "new", "--no-encrypt", "--data-dir", folder, *which)
    return str(made["address"])


async def test_stake_comes_and_goes(onchain: OnChain, tmp_path: Path) -> None:
    folder = tmp_path / "provider"
    address = await new_key(onchain, folder)
    at = ("--data-dir", folder)
    said = await onchain.refused("stake", "add", "5", "--yes", *at)
    assert "a provider's first stake is at least 10 PRIME" in said

    # The folder remembers the network it was made for; nobody is asked with --json.
    added = await onchain.json("stake", "add", "12.5", *at)
    assert (added["provider"], added["active"]) == (address, str(25 * UNIT // 2))
    assert added["transaction"].startswith("0x")
    first = await onchain.json("stake", "add", "2", "--order", "may", *at)
    again = await onchain.json("stake", "add", "2", "--order", "may", *at)
    assert again["active"] == first["active"] == str(29 * UNIT // 2)

    said = await onchain.refused("stake", "unstake", "100", "--yes", *at)
    assert "14.5 of 14.5 PRIME can be asked back" in said
    asked = await onchain.json("stake", "unstake", "4.5", *at)
    assert (asked["active"], asked["unbonding"]) == (str(10 * UNIT), str(9 * UNIT // 2))
    early = await onchain.refused("stake", "withdraw", *at)
    assert "too early: 4.5 PRIME are free at" in early

    await onchain.pass_time(UNBONDING)
    taken = await onchain.json("stake", "withdraw", *at)
    assert taken["unbonding"] == "0"
    assert taken["transaction"] is not None
    nothing = await onchain.json("stake", "withdraw", *at)
    assert nothing["transaction"] is None
    shown = await onchain.run("stake", "status", *at)
    assert "active     10 PRIME" in shown.out
    balance = await onchain.json("wallet", "balance", *at)
    assert balance["provider"]["tokens"] == str(9_990 * UNIT)
    assert balance["node"] is None


async def test_nobody_to_ask_sends_nothing(onchain: OnChain, tmp_path: Path) -> None:
    await new_key(onchain, tmp_path / "p")
    said = await onchain.refused("stake", "add", "20", "--data-dir", tmp_path / "p")
    assert "add --yes" in said
    status = await onchain.json("stake", "status", "--data-dir", tmp_path / "p")
    assert status["active"] == "0"


async def test_without_a_faucet_the_address_and_amount_are_named(
    onchain: OnChain, tmp_path: Path
) -> None:
    text = onchain.network_file.read_text()
    lines = [line for line in text.splitlines() if "faucet_url" not in line]
    onchain.network_file.write_text("\n".join(lines))
    address = await new_key(onchain, tmp_path / "p")
    said = await onchain.refused("stake", "add", "20", "--data-dir", tmp_path / "p", code=1)
    assert f"{address} has 0 ETH for gas and needs 0.0" in said
    assert "holds 0 PRIME and needs 20 PRIME" in said


async def test_a_node_runs_without_its_providers_secret(onchain: OnChain, tmp_path: Path) -> None:
    cold, hot = tmp_path / "cold", tmp_path / "hot"
    provider = await new_key(onchain, cold)
    node = await new_key(onchain, hot, "--node")
    client = await onchain.world.client(load_key(hot / "node.key").secret)
    identity = Provider(provider, None, hot)
    key = load_key(hot / "node.key")
    table = _table(onchain)
    with pytest.raises(Exception, match=f"wallet consent --data-dir {hot} --provider {provider}"):
        await register_worker(client, table, identity, key, 3)

    consent = await onchain.run("wallet", "consent", "--provider", provider, "--units", "3",
                                "--data-dir", hot)  # fmt: skip
    text = consent.out.strip()
    assert len(consent.out.splitlines()) == 1
    assert Consent.from_text(text).node == node
    registered = await onchain.json("stake", "register-node", text, "--data-dir", cold)
    assert registered["nodes"] == [
        {"address": node, "compute_units": 3, "validated": False, "pool_id": None}
    ]
    assert registered["active"] == registered["required"] == str(13 * UNIT)
    assert not (hot / "provider.key").exists()
    await register_worker(client, table, identity, key, 3)  # the node now starts

    # The same consent again changes nothing; a second node raises the stake by what it needs.
    again = await onchain.json("stake", "register-node", text, "--data-dir", cold)
    assert again["nodes"] == registered["nodes"]
    await new_key(onchain, cold, "--node")
    both = await onchain.json("stake", "register-node", "--units", "2", "--data-dir", cold)
    assert both["active"] == both["required"] == str(15 * UNIT)
    said = await onchain.refused("stake", "unstake", "1", "--yes", "--data-dir", cold)
    assert "remove nodes first: prime-node deregister" in said

    stranger = tmp_path / "stranger"
    await new_key(onchain, stranger)
    await onchain.json("stake", "add", "50", "--data-dir", stranger)
    other = Provider(str(load_key(stranger / "provider.key").address), None, hot)
    with pytest.raises(Exception, match=f"registered under provider {provider}"):
        await register_worker(client, table, other, key, 3)


async def test_a_consent_is_for_one_provider_one_network_and_a_while(
    onchain: OnChain, tmp_path: Path
) -> None:
    cold, hot = tmp_path / "cold", tmp_path / "hot"
    provider = await new_key(onchain, cold)
    await new_key(onchain, hot, "--node")
    made = await onchain.json(
        "wallet", "consent", "--provider", provider, "--hours", "1", "--data-dir", hot
    )
    text = made["consent"]
    await new_key(onchain, tmp_path / "other")
    wrong = ("stake", "register-node", text, "--yes", "--data-dir", tmp_path / "other")
    assert f"is for provider {provider}" in await onchain.refused(*wrong)
    mine = ("stake", "register-node", "--yes", "--data-dir", cold)
    assert "to its last character" in await onchain.refused(*mine, text[:-9])
    assert "begins with consent1." in await onchain.refused(*mine, "hello")
    changed = json.loads(Consent.from_text(text).model_dump_json())
    changed["deadline"] += 10**6
    forged = Consent.model_validate(changed).to_text()
    assert "not signed by its node" in await onchain.refused(*mine, forged)
    await onchain.pass_time(3700)
    assert "expired" in await onchain.refused(*mine, text)
    said = await onchain.refused("wallet", "consent", "--provider", "0x12", "--data-dir", hot)
    assert "40 hex digits" in said


@pytest.mark.parametrize(
    "amount", ["0", "-1", "1e3", "1,5", "0.0000000000000000001", "nan", "1_0", " ", "٣", "9" * 41]
)
def test_amounts_are_exact_or_refused(cli: object, amount: str) -> None:
    from node.errors import InputError
    from node.onchain.amounts import parse_tokens

    with pytest.raises(InputError):
        parse_tokens(amount)


def test_amounts_are_read_and_shown_exactly() -> None:
    from node.onchain.amounts import decimal, parse_tokens

    for text in ("1", "12.5", "0.000000000000000001", "123456789.123456789123456789"):
        assert decimal(parse_tokens(text)) == text


def _table(onchain: OnChain):  # type: ignore[no-untyped-def]
    from node.config.networkfile import NetworkFile

    return NetworkFile.load(onchain.network_file).chain
