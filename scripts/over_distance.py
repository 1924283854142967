#!/usr/bin/env python3
"""Real node processes over distances: rings must come up, bring tokens, and outlive a partition.

    sudo .venv/bin/python scripts/over_distance.py [--round-trips 25,150,600] [--loss 0.2]

An orchestrator and three workers, each in its own network namespace, are joined by a wire that
delays every packet (`scripts/distance`). At each round trip the ring of two is broken by killing an
engine, and must be up again and bring tokens. Then a share of all packets is lost; then a worker of
the ring is cut off, the third must take its place, and the one that was cut off must be a member
again. Where the machine cannot do that, this says why and does nothing.

Needs a prepared model (`prime-node model get smollm2`). Takes about ten minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import tomli_w
from distance.spaces import ROOT, enter, run_on, why_not
from distance.wire import Wire

from node.cli.operating.api_client import ApiClient
from node.config.datadir import DataDir
from node.errors import NodeError

WORKERS = ("10.77.0.2", "10.77.0.3", "10.77.0.4")
ORCHESTRATOR = "10.77.0.1"
PATIENCE = 240.0
SETTINGS = {
    "orchestrator": {
        "stages": 2,
        "formation_wait": 600.0,
        "tokens_per_sequence": 512,
        "sequences_in_flight": 4,
    }
}
MEMORY = "600MiB"
"""Of each worker: no one of them holds the model alone."""


class Nodes:
    """The processes, in `folder`; each node's log is `ADDRESS.log` there."""

    def __init__(self, folder: Path, wire: Wire, model: str) -> None:
        self._folder = folder
        self._wire = wire
        self._model = model
        self._file = folder / "network.toml"
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.peer_ids: dict[str, str] = {}
        self.api: ApiClient | None = None
        self._jobs = 0

    def start(self) -> None:
        """The orchestrator, then everybody else at its address."""
        self._file.write_text('name = "distance"\n')
        data = DataDir(self._folder / ORCHESTRATOR)
        data.create()
        data.config.write_text(tomli_w.dumps(SETTINGS))
        self._run(ORCHESTRATOR, "orchestrator", ["--model", self._model])
        serving = self._serving(ORCHESTRATOR)
        self.api = ApiClient(serving["http"], data.api_token())
        self._file.write_text(
            tomli_w.dumps({"name": "distance", "bootstrap": serving["addresses"]})
        )
        for address in WORKERS:
            self._run(address, "worker", ["--threads", "1", "--vram", MEMORY])
        for address in WORKERS:
            self._serving(address)

    def stop(self) -> None:
        """End all of them."""
        for child in self._running.values():
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()

    def ring(self) -> tuple[int, tuple[str, ...]] | None:
        """Generation and addresses of the group's ring, None while it does not run."""
        assert self.api is not None
        names = {peer_id: address for address, peer_id in self.peer_ids.items()}
        for group in self.api.get("/v1/groups")["items"]:
            if group["state"] == "running":
                return group["generation"], tuple(names[s["peer_id"]] for s in group["stages"])
        return None

    def kill_engine(self, address: str) -> None:
        """Kill the engine of a worker; its node goes on."""
        for child in psutil.Process(self._running[address].pid).children(recursive=True):
            if "pipeline.engine" in " ".join(child.cmdline()):
                child.kill()

    def tokens(self) -> float:
        """Tokens a second of a small job, once all of them are there."""
        assert self.api is not None
        self._jobs += 1
        prompt = {"messages": [{"role": "user", "content": "Count to ten."}], "max_tokens": 16}
        body = {"key": f"distance-{self._jobs}", "prompts": [{"id": "a", **prompt}]}
        job_id = self.api.post("/v1/jobs", body)["job_id"]
        began = time.monotonic()
        found = until(lambda: self._done(job_id), "tokens of a job")
        return found / (time.monotonic() - began)

    def is_healthy(self, address: str) -> bool:
        """Whether the orchestrator has that worker as a member."""
        assert self.api is not None
        items = self.api.get("/v1/nodes")["items"]
        state = {item["peer_id"]: item["state"] for item in items}
        return state.get(self.peer_ids[address]) == "healthy"

    def _done(self, job_id: str) -> int:
        assert self.api is not None
        units = [u for u in self.api.get("/v1/work", last=8)["items"] if u["job_id"] == job_id]
        at_work = {"queued", "assigned"}
        done = bool(units) and all(unit["state"] not in at_work for unit in units)
        return int(self.api.get(f"/v1/jobs/{job_id}", limit=1)["tokens"]) if done else 0

    def _run(self, address: str, role: str, more: list[str]) -> None:
        command = [sys.executable, "-m", "node", "run", "--role", role]
        command += ["--data-dir", str(self._folder / address), "--network-file", str(self._file)]
        command += ["--listen", f"/ip4/{address}/tcp/4001", "--http-port", "7070"]
        command += ["--log-format", "json", *more]
        environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'scripts'}",
            "PYTHONUNBUFFERED": "1",
        }
        with (self._folder / f"{address}.log").open("wb") as log:
            if address == ORCHESTRATOR:  # in this process's own namespace, so that it can be asked
                self._running[address] = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            else:
                self._running[address] = run_on(self._wire, address, command, environment, log)

    def _serving(self, address: str) -> dict[str, Any]:
        line = until(lambda: self._said(address, "serving"), f"{address} serves")
        self.peer_ids[address] = line["addresses"][0].rpartition("/p2p/")[2]
        return line

    def _said(self, address: str, event: str) -> dict[str, Any]:
        if self._running[address].poll() is not None:
            raise SystemExit(f"{address} has ended: see {self._folder / address}.log")
        for raw in (self._folder / f"{address}.log").read_bytes().splitlines():
            with suppress(ValueError):
                line = json.loads(raw)
                if isinstance(line, dict) and line.get("event") == event:
                    return line
        return {}


def until(look: Callable[[], Any], what: str) -> Any:
    """What `look` finds, once that is something."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with suppress(NodeError):  # a busy node answers late
            if found := look():
                return found
        time.sleep(0.5)
    raise SystemExit(f"FAILED: not within {PATIENCE:.0f} s: {what}")


def again(nodes: Nodes, broken: Callable[[str], None], without: str = "") -> tuple[float, float]:
    """Break the ring by what `broken` does to its second worker: seconds until another generation
    is up, without the worker `without`, and tokens a second after that."""
    generation, ring = until(nodes.ring, "a ring")
    began = time.monotonic()
    broken(ring[1])

    def newer() -> bool:
        found = nodes.ring()
        return found is not None and found[0] > generation and without not in found[1]

    until(newer, "another ring")
    return time.monotonic() - began, nodes.tokens()


def measure(nodes: Nodes, wire: Wire, round_trips: list[float], loss: float) -> None:
    """Everything, a line each."""
    until(nodes.ring, "the first ring")
    print(f"{'round trip':>12} {'lost':>6} {'ring up after':>14} {'tokens/s':>9}")
    for milliseconds, lost in [*((trip, 0.0) for trip in round_trips), (round_trips[0], loss)]:
        wire.delay, wire.loss = milliseconds / 2000, lost
        seconds, rate = again(nodes, nodes.kill_engine)
        print(f"{milliseconds:>9.0f} ms {lost:>6.0%} {seconds:>12.1f} s {rate:>9.2f}", flush=True)
    wire.loss = 0.0
    _, ring = until(nodes.ring, "a ring")

    def cut(_: str) -> None:
        wire.cut = frozenset((ring[1],))

    seconds, rate = again(nodes, cut, without=ring[1])
    print(f"   partition {'':>6} {seconds:>12.1f} s {rate:>9.2f}", flush=True)
    wire.cut, began = frozenset(), time.monotonic()
    until(lambda: nodes.is_healthy(ring[1]), "the worker that was cut off is a member again")
    print(f"      healed: a member again after {time.monotonic() - began:.1f} s")


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--round-trips", default="25,150,600", help="milliseconds")
    parser.add_argument("--loss", type=float, default=0.2, help="share of packets")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--keep", type=Path, help="a folder for the nodes' data and logs")
    options = parser.parse_args()
    if reason := why_not():
        print(f"skipped: {reason}")
        return 0
    with tempfile.TemporaryDirectory(prefix="prime-distance-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda number, _: sys.exit(128 + number))  # nodes end with it
        tun = enter(ORCHESTRATOR)
        wire = Wire()
        wire.attach(ORCHESTRATOR, tun)
        nodes = Nodes(folder, wire, options.model)
        trips = [float(trip) for trip in options.round_trips.split(",")]
        wire.delay = trips[0] / 2000
        try:
            nodes.start()
            measure(nodes, wire, trips, options.loss)
        finally:
            nodes.stop()
            wire.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
