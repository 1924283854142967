"""Bad input gets one clear line and a non-zero exit, from the real command line."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chain.encoding.artifacts import CONTRACTS
from node.config.keystore import generate_key
from node.config.networkfile import ChainTable, NetworkFile
from p2p.identity import peer_id_of
from tests.ports import free_port

pytestmark = [pytest.mark.network, pytest.mark.timeout(180)]
LOOPBACK = ("--listen", "/ip4/127.0.0.1/tcp/0", "--http-port", "0")


def error_of(*arguments: str) -> str:
    """The one line on stderr that is not a log line. Fails on success and on tracebacks."""
    done = subprocess.run(
        [sys.executable, "-m", "node", *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.returncode not in (0, 70), done.stderr
    assert "Traceback" not in done.stderr
    plain = [line for line in done.stderr.splitlines() if line and not line.startswith("{")]
    errors = [line for line in plain if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    return errors[0]


@pytest.fixture
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def run(tmp_path: Path, *arguments: str) -> str:
    common = ("run", "--data-dir", str(tmp_path / "node"), *LOOPBACK)
    return error_of(*common, *arguments)


def test_unknown_model(tmp_path: Path) -> None:
    store = ("--model-store", str(tmp_path / "store"))
    text = run(tmp_path, "--role", "orchestrator", "--model", "no-such-model", *store)
    assert "no-such-model" in text


def test_http_port_in_use(tmp_path: Path, smollm2: Path, busy_port: int) -> None:
    common = ("run", "--role", "orchestrator", "--data-dir", str(tmp_path / "node"))
    text = error_of(*common, *LOOPBACK[:2], "--http-port", str(busy_port))
    assert str(busy_port) in text
    assert "--http-port" in text


def test_network_port_in_use(tmp_path: Path, busy_port: int) -> None:
    common = ("run", "--role", "orchestrator", "--data-dir", str(tmp_path / "node"))
    address = f"/ip4/127.0.0.1/tcp/{busy_port}"
    text = error_of(*common, "--listen", address, "--http-port", "0")
    assert str(busy_port) in text


def test_malformed_bootstrap_address(tmp_path: Path) -> None:
    assert "multiaddr" in run(tmp_path, "--role", "worker", "--bootstrap", "1.2.3.4:4001")


def test_bootstrap_peer_that_does_not_answer(tmp_path: Path) -> None:
    address = f"/ip4/127.0.0.1/tcp/{free_port()}/p2p/{peer_id_of(generate_key().secret)}"
    text = run(tmp_path, "--role", "worker", "--bootstrap", address)
    assert "bootstrap" in text


def test_no_bootstrap_at_all(tmp_path: Path) -> None:
    assert "--bootstrap" in run(tmp_path, "--role", "worker")


def test_wrong_key_file(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir(mode=0o700)
    (folder / "node.key").write_text("not a key\n")
    (folder / "node.key").chmod(0o600)
    assert "node.key" in run(tmp_path, "--role", "orchestrator")


def test_unreachable_chain(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    contracts = dict.fromkeys(CONTRACTS, "0x" + "11" * 20)
    file = tmp_path / "network.toml"
    NetworkFile(chain=ChainTable(rpc_url=url, chain_id=31337, contracts=contracts)).save(file)
    text = run(tmp_path, "--role", "orchestrator", "--network-file", str(file))
    assert url in text


def test_broken_prompts_file_names_the_line(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"prompt": "fine"}\n{"prompt": 7}\n')
    text = error_of("simulate", "--prompts", str(prompts), "--output", str(tmp_path / "out"))
    assert f"{prompts}:2" in text


def test_fault_of_a_node_that_there_is_not(tmp_path: Path) -> None:
    text = error_of("simulate", "--fault", "worker-9:crash", "--output", str(tmp_path / "out"))
    assert "worker-9" in text


def test_data_folder_in_use(tmp_path: Path, smollm2: Path) -> None:
    folder = ("--data-dir", str(tmp_path / "node"))
    common = (sys.executable, "-m", "node", "run", "--role", "orchestrator", *folder, *LOOPBACK)
    first = subprocess.Popen(common, stderr=subprocess.PIPE, text=True)
    try:
        assert first.stderr is not None
        for line in first.stderr:
            if "serving" in line:
                break
        assert "in use" in run(tmp_path, "--role", "orchestrator")
    finally:
        first.terminate()
        first.wait(timeout=30)
