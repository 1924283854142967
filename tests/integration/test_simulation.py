"""`prime-node simulate` from the outside: its exit status, its report, its dataset."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.integration.conftest import Simulation

pytestmark = [
    pytest.mark.network,
    pytest.mark.model,
    pytest.mark.slow(1),
    pytest.mark.xdist_group("networks of processes"),
    pytest.mark.timeout(900),
]
Start = Callable[..., Simulation]


def left_behind(folder: Path) -> list[str]:
    """Command lines of processes that still name a simulation's folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        words = " ".join(process.info["cmdline"] or ())
        if str(folder) in words:
            found.append(words)
    return found


def test_two_networks_at_once_give_the_same_completions(simulation: Start) -> None:
    """One of two workers, one of three that loses a worker. Neither disturbs the other: own ports,
    keys, chain and folders, on one machine. What is generated depends on neither."""
    honest = simulation("--limit", "8", "--max-tokens", "24", "--workers", "2")
    struck = simulation("--limit", "8", "--max-tokens", "24", "--fault", "worker-2:crash@2")
    first, second = honest.finish(), struck.finish()

    assert first.code == 0, first.text
    assert all(first.held().values())
    assert first.report["rejections"] == []
    assert len(first.report["group"]["stages"]) == 2
    for row in first.rows:
        assert len(row["stages"]) == 2
        assert all(stage["proofs"] for stage in row["stages"])
        assert row["verdict"]["accepted"]
        assert row["receipt_transaction"].startswith("0x")
        assert len(row["output_ids"]) <= 24
    assert all(int(worker["earned"]) > 0 for worker in first.report["workers"])
    whole = first.report["whole_model_engine_bytes"]
    assert all(0 < worker["weights_bytes"] < whole for worker in first.report["workers"])

    assert second.code == 0, second.text
    assert "kill -9 worker-2" in second.text
    # Both pools began at the same minute, which their generations are numbered from.
    built = [[row["group"]["generation"] for row in run.rows] for run in (first, second)]
    assert max(built[1]) > min(built[0])
    outputs = [{row["prompt_id"]: row["output_ids"] for row in run.rows} for run in (first, second)]
    assert len(first.rows) == len(second.rows) == len(outputs[0]) == 8
    assert outputs[0] == outputs[1]
    for one in (first, second):
        assert left_behind(one.output) == []


def test_dishonest_workers_are_named_and_not_paid(simulation: Start) -> None:
    run = simulation(
        *("--workers", "4", "--limit", "6", "--max-tokens", "24"),
        *("--fault", "worker-2:int4-weights", "--fault", "worker-1:null-proofs"),
    ).finish()
    assert run.code == 0, run.text
    peers = {stage["peer_id"]: stage["address"] for row in run.rows for stage in row["stages"]}
    blamed = {item["peer_id"] for item in run.report["rejections"]}
    assert len(blamed) == 2
    assert blamed.isdisjoint(peers)
    for name in ("worker-1", "worker-2"):
        assert run.worker(name)["earned"] == "0"
    for name in ("worker-3", "worker-4"):
        assert int(run.worker(name)["earned"]) > 0
    assert len(run.rows) == 6
    cases = [Path(path) for path in run.report["cases"]]
    words = sorted(path.name.partition("-")[0] for path in cases)
    assert words.count("rejected") >= 2
    assert words.count("accepted") == 1
    for path in cases:  # the network is gone; the verdicts can still be checked
        checked = subprocess.run(
            [sys.executable, "-m", "node", "verify", str(path), "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr
        found = json.loads(checked.stdout)
        assert found["verdict"]["accepted"] == path.name.startswith("accepted")
        assert found["verdict"]["faulty_peer"] in {"", *blamed}


def test_orchestrator_and_validator_survive_kill_9(simulation: Start) -> None:
    """What was accepted is in their journals: nothing is lost, and nothing is paid twice."""
    run = simulation(
        *("--limit", "6", "--max-tokens", "24"),
        *("--fault", "orchestrator:crash@2", "--fault", "validator-1:crash@3"),
    ).finish()
    assert run.code == 0, run.text
    ids = [row["prompt_id"] for row in run.rows]
    assert len(ids) == len(set(ids)) == 6
    layers_times_tokens = sum(
        30 * (len(row["prompt_ids"]) + len(row["output_ids"])) for row in run.rows
    )
    earned = sum(int(worker["earned"]) for worker in run.report["workers"])
    assert earned == layers_times_tokens * 10**15


def test_ctrl_c_stops_every_process(simulation: Start) -> None:
    run = simulation("--limit", "4")
    children = psutil.Process(run.process.pid)
    for _line in run.process.stdout or ():
        if "3 workers" in _line:
            break
    started = children.children(recursive=True)
    assert started
    os.kill(run.process.pid, signal.SIGINT)
    assert run.finish().code == 130
    _, alive = psutil.wait_procs(started, timeout=30)
    assert alive == []
    assert left_behind(run.output) == []


def test_too_little_memory_is_one_clear_line(simulation: Start, tmp_path: Path) -> None:
    topology = tmp_path / "topology.toml"
    topology.write_text('[workers.worker-1]\nvram = "128MiB"\n')
    run = simulation("--workers", "1", "--limit", "1", "--topology", str(topology)).finish()
    assert run.code != 0
    last = run.text.strip().splitlines()[-1]
    assert last.startswith("error: ")
    assert "not enough memory" in last
    assert "Traceback" not in run.text
