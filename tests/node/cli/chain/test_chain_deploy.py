"""`chain deploy`, `chain verify` and `chain grant` against an embedded chain of another process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from node.config.keystore import generate_key, save_key
from node.config.networkfile import ChainTable, NetworkFile, PoolTable
from node.onchain.deploying import database_path
from node.onchain.devchain import FUNDER_VARIABLE
from tests.paths import ROOT

pytestmark = pytest.mark.network

SERVE = """
import trio
from chain.devnet.server import serve_devnet

async def main():
    async with trio.open_nursery() as nursery:
        start = lambda *, task_status: serve_devnet(
            "127.0.0.1", 0, backend="py-evm", task_status=task_status
        )
        print((await nursery.start(start)).url, flush=True)

trio.run(main)
"""


@pytest.fixture(scope="module")
def rpc_url() -> Iterator[str]:
    """A chain without contracts."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def fund(rpc_url: str, address: str) -> None:
    httpx.post(f"{rpc_url}/faucet", json={"address": address}, trust_env=False, timeout=30)


def test_a_network_is_deployed_once_verified_and_extended(
    rpc_url: str, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = generate_key()
    fund(rpc_url, key.address)
    monkeypatch.setenv(FUNDER_VARIABLE, "0x" + key.secret.hex())
    file, params = tmp_path / "network.toml", tmp_path / "params.toml"
    NetworkFile(name="kept").save(file)
    params.write_text('bond = "2.5 PRIME"\n')
    arguments = ["chain", "deploy", "--rpc-url", rpc_url, "--params", str(params), "--json"]
    arguments += ["--network-file", str(file)]
    first = cli(*arguments)
    assert first.code == 0, first.err
    shown = json.loads(first.out)
    assert shown["deployer"] == key.address
    network = NetworkFile.load(file)
    assert network.name == "kept"
    assert network.chain is not None
    assert network.chain.contracts == shown["contracts"]
    assert network.chain.faucet_url is None
    assert database_path(file, 31337, key.address).exists()
    assert all(name in first.err for name in ("PrimeToken at 0x", "roles granted", "inference"))
    assert key.secret.hex() not in first.out + first.err

    # Again: nothing is sent, and the pool that somebody made meanwhile stays.
    pool = PoolTable(id=1, domain=1, orchestrator=key.address)
    network.updated(pool=pool).save(file)
    second = cli(*arguments)
    assert json.loads(second.out) == shown
    assert NetworkFile.load(file).pool == pool

    verified = cli("chain", "verify", "--network-file", str(file))
    assert (verified.code, verified.err) == (0, "")
    assert " no " not in verified.out
    assert "PrimeToken has this version's code" in verified.out
    for _ in range(2):
        granted = cli("chain", "grant", "0x" + "12" * 20, "--network-file", str(file))
        assert (granted.code, granted.err) == (0, "")

    swapped = dict(network.chain.contracts)
    swapped["PrimeToken"], swapped["PrimeAccess"] = swapped["PrimeAccess"], swapped["PrimeToken"]
    table = network.chain.model_dump() | {"contracts": swapped}
    network.updated(chain=ChainTable.model_validate(table)).save(file)
    tampered = cli("chain", "verify", "--network-file", str(file), "--json")
    assert tampered.code == 1
    assert "2 of 10 checks do not hold" in tampered.err
    report = json.loads(tampered.out)
    assert not report["holds"]
    assert [c["found"] for c in report["checks"] if not c["holds"]] == ["other code"] * 2


def test_an_encrypted_key_pays(
    rpc_url: str, cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, file = generate_key(), tmp_path / "network.toml"
    keystore = tmp_path / "deployer.json"
    save_key(keystore, key, "secret", scrypt_rounds=2)
    arguments = ["chain", "deploy", "--rpc-url", rpc_url, "--key-file", str(keystore)]
    arguments += ["--network-file", str(file)]
    monkeypatch.setenv("PRIME_NODE_PASSPHRASE", "secret")
    poor = cli(*arguments)
    assert poor.code == 3
    assert poor.err.startswith(f"error: {key.address} holds nothing on chain 31337")
    assert not file.exists()
    fund(rpc_url, key.address)
    done = cli(*arguments)
    assert done.code == 0, done.err
    assert "ReceiptSettlement" in done.out
    assert done.out.rstrip().endswith(f"written to {file}")
    # Only the federator of this deployment admits validators.
    monkeypatch.setenv(FUNDER_VARIABLE, generate_key().secret.hex())
    stranger = cli("chain", "grant", "0x" + "12" * 20, "--network-file", str(file))
    assert stranger.code != 0
    granted = cli(
        "chain", "grant", "0x" + "12" * 20, "--network-file", str(file), "--key-file", str(keystore)
    )
    assert granted.code == 0, granted.err


@pytest.mark.parametrize(
    ("extra", "parameters", "said"),
    [
        (["--preset", "mainnet"], "", "development, base-sepolia"),
        (["--preset", "base-sepolia"], f'treasury = "0x{"11" * 20}"', "is for chain 84532"),
        ([], "bonds = 3", "no parameter 'bonds'"),
        ([], "challenge_window = 60", "unbonding_period 60 must be longer"),
        (["--key-file", "/nowhere/key"], "", "no such key file"),
    ],
)
def test_what_cannot_be_deployed_is_one_line(
    rpc_url: str,
    cli: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extra: list[str],
    parameters: str,
    said: str,
) -> None:
    file, params = tmp_path / "network.toml", tmp_path / "params.toml"
    params.write_text(parameters)
    monkeypatch.setenv(FUNDER_VARIABLE, generate_key().secret.hex())
    arguments = ["chain", "deploy", "--rpc-url", rpc_url, "--params", str(params)]
    shown = cli(*arguments, "--network-file", str(file), *extra)
    assert shown.code == 3
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not file.exists()


def test_without_a_key_it_says_where_one_is_looked_for(rpc_url: str, cli: Any) -> None:
    shown = cli("chain", "deploy", "--rpc-url", rpc_url)
    assert shown.code == 3
    assert "--key-file" in shown.err
    assert FUNDER_VARIABLE in shown.err
