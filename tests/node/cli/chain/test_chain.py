"""`chain dev` and `chain grant`: a real chain in a process of its own."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from node.config.networkfile import ChainTable, NetworkFile
from node.onchain.devchain import deployer_key_path
from tests.paths import ROOT

PEER = "/ip4/127.0.0.1/tcp/4001/p2p/16Uiu2HAmTestPeerTestPeer"
ADDRESS = "0x" + "12" * 20


def start(network_file: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "node", "chain", "dev", "--port", "0", "--json"]
    command += ["--network-file", str(network_file)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.fixture(scope="module")
def network_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("chain") / "network.toml"
    NetworkFile(name="kept", bootstrap=(PEER,)).save(path)
    return path


@pytest.fixture(scope="module")
def chain(network_file: Path) -> Iterator[dict[str, Any]]:
    """What `chain dev` printed; afterwards it is stopped as by Ctrl-C."""
    process = start(network_file)
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert not deployer_key_path(network_file).exists()


@pytest.mark.network
def test_the_network_file_names_the_chain_and_keeps_the_rest(
    chain: dict[str, Any], network_file: Path
) -> None:
    network = NetworkFile.load(network_file)
    assert (network.name, network.bootstrap) == ("kept", (PEER,))
    assert network.chain is not None
    assert network.chain.rpc_url == chain["rpc_url"]
    assert "ReceiptSettlement" in network.chain.contracts
    assert stat.S_IMODE(deployer_key_path(network_file).stat().st_mode) == 0o600


def call(url: str, method: str, *params: object) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = httpx.post(url, json=body, trust_env=False, timeout=30)
    return answer.json()["result"]


@pytest.mark.network
def test_the_faucet_gives_gas_and_tokens(chain: dict[str, Any]) -> None:
    from chain.encoding.artifacts import load_artifact

    answer = httpx.post(chain["faucet_url"], json={"address": ADDRESS}, trust_env=False, timeout=30)
    assert answer.status_code == 200
    assert int(call(chain["rpc_url"], "eth_getBalance", ADDRESS, "latest"), 16) == 10**18
    data = "0x" + load_artifact("PrimeToken").abi.encode("balanceOf", ADDRESS).hex()
    token = {"to": chain["contracts"]["PrimeToken"], "data": data}
    assert int(call(chain["rpc_url"], "eth_call", token, "latest"), 16) == 10_000 * 10**18


@pytest.mark.network
def test_any_address_is_funded_once(chain: dict[str, Any], network_file: Path, cli: Any) -> None:
    other = "0x" + "34" * 20
    shown = cli("chain", "fund", other, "--network-file", str(network_file))
    assert (shown.code, shown.err) == (0, "")
    assert "1 ETH and 10000 PRIME" in shown.out
    again = cli("chain", "fund", other, "--network-file", str(network_file))
    assert "nothing, it has enough" in again.out


@pytest.mark.network
def test_the_validator_role_is_granted(chain: dict[str, Any], network_file: Path, cli: Any) -> None:
    for _ in range(2):
        shown = cli("chain", "grant", ADDRESS, "--network-file", str(network_file))
        assert (shown.code, shown.err) == (0, "")
        assert shown.out.startswith("granted")


@pytest.mark.network
def test_a_taken_port_is_one_line(chain: dict[str, Any], tmp_path: Path, cli: Any) -> None:
    port = chain["rpc_url"].rpartition(":")[2]
    file = tmp_path / "other.toml"
    shown = cli("chain", "dev", "--port", port, "--network-file", str(file))
    assert shown.code == 5
    assert shown.err.startswith(f"error: port {port} on 127.0.0.1 is in use")
    assert len(shown.err.splitlines()) == 1
    assert not file.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["chain", "dev", "--backend", "geth"], "auto, anvil or py-evm"),
        (["chain", "dev", "--validator", "bob"], "bob: not an address"),
        (["chain", "grant", "0x12"], "0x12: not an address"),
        (["chain", "dev", "--host", "0.0.0.0", "--port", "0"], "private network"),
    ],
)
def test_bad_arguments_start_nothing(
    cli: Any, tmp_path: Path, arguments: list[str], said: str
) -> None:
    file = tmp_path / "network.toml"
    shown = cli(*arguments, "--network-file", str(file))
    assert shown.code != 0
    assert said in shown.err
    assert len(shown.err.splitlines()) == 1
    assert not file.exists()


@pytest.mark.parametrize("command", ["grant", "fund"])
def test_without_a_chain_it_says_so(cli: Any, tmp_path: Path, command: str) -> None:
    file = tmp_path / "network.toml"
    NetworkFile().save(file)
    shown = cli("chain", command, ADDRESS, "--network-file", str(file))
    assert shown.code == 3
    assert "prime-node chain dev" in shown.err


def test_a_chain_without_a_faucet_says_who_needs_what(cli: Any, tmp_path: Path) -> None:
    file = tmp_path / "network.toml"
    NetworkFile(chain=ChainTable(rpc_url="http://127.0.0.1:1", chain_id=1)).save(file)
    shown = cli("chain", "fund", ADDRESS, "--network-file", str(file))
    assert shown.code == 3
    assert f"its chain has no faucet (send gas money and tokens to {ADDRESS})" in shown.err


def test_an_interruption_while_deploying_writes_nothing(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def deploying(*_arguments: object, task_status: object, **_options: object) -> None:
        signal.raise_signal(signal.SIGINT)
        await trio.sleep_forever()

    monkeypatch.setattr("node.onchain.devchain.run_dev_chain", deploying)
    file = tmp_path / "network.toml"
    shown = cli("chain", "dev", "--network-file", str(file))
    assert (shown.code, shown.out, shown.err) == (130, "", "interrupted\n")
    assert not file.exists()
