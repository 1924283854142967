"""Every benchmark in turn, and one summary: what `make bench` runs.

    python scripts/bench/all.py [--only NAME ...]

Each benchmark is a process of its own; its tables appear as it prints them. A line of a benchmark
that begins with "summary:" is repeated at the end, with the time that each took and how busy the
machine was. Takes about nine minutes on two idle cores. Exit status 1 if any benchmark failed,
whose log is then shown.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from machine import Watched, machine, watch

HERE = Path(__file__).resolve().parent
SUMMARY = "summary:"
DEADLINE = 600.0
"""Seconds for one benchmark; on a busy machine threads that wait for one another crawl."""
BENCHES: dict[str, list[str]] = {
    "toploc": ["bench_toploc.py"],
    "verification": ["bench_verification.py", "--batches", "1", "16", "--rounds", "1"],
    "settlement": ["bench_settlement.py"],
    "scale": ["bench_scale.py"],
    "hostile": ["bench_hostile.py", "--seconds", "5", "--rounds", "2"],
    "dataplane": ["bench_dataplane.py", "--rounds", "3"],
    "runner": ["bench_runner.py"],
    "sampling": ["bench_sampling.py", "--rows", "16"],
    "lengths": ["bench_lengths.py", "--wall"],
    "network": ["bench_network.py", "--delay-ms", "25"],
}


@dataclass(frozen=True)
class Outcome:
    """How one benchmark ended: exit code, its headline figures, and what ran beside it."""

    name: str
    code: int
    headlines: tuple[str, ...]
    watched: Watched


def kill(group: int) -> None:
    """End a benchmark with all processes that it started."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def bench(name: str, command: list[str]) -> Outcome:
    """Run one, its output passed on line by line and its log kept back unless it fails."""
    print(f"\n== {name} ==\n", flush=True)
    headlines = []
    with tempfile.TemporaryFile("w+") as log, watch() as watched:
        arguments = [sys.executable, str(HERE / command[0]), *command[1:]]
        with subprocess.Popen(
            arguments,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=HERE.parents[1],
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            overdue = threading.Timer(DEADLINE, kill, [process.pid])
            overdue.start()
            try:
                for line in process.stdout:
                    print(line, end="", flush=True)
                    if line.startswith(SUMMARY):
                        headlines.append(line.removeprefix(SUMMARY).strip())
                process.wait()
            finally:
                overdue.cancel()
                kill(process.pid)
        if process.returncode:
            log.seek(0)
            print(log.read(), file=sys.stderr)
    return Outcome(name, process.returncode, tuple(headlines), watched)


def main() -> int:
    """Run the chosen benchmarks one after another; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=list(BENCHES))
    options = parser.parse_args()
    outcomes = [bench(name, BENCHES[name]) for name in options.only]
    print(f"\n== summary ==\n\n{machine()}\n")
    print(f"{'':10} {'':>6} {'seconds':>8} {'others':>7} {'load':>5}")
    for each in outcomes:
        result = "ok" if each.code == 0 else "failed"
        watched = each.watched
        print(
            f"{each.name:10} {result:>6} {watched.seconds:8.0f} {watched.others:7.2f} "
            f"{watched.load:5.1f}"
        )
    print()
    for each in outcomes:
        for headline in each.headlines:
            print(f"{each.name}: {headline}")
    return int(any(each.code for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
