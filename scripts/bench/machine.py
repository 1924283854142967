"""Which machine a figure was measured on, and how much of it belonged to others meanwhile.

The load average lags by minutes and counts our own threads, so beside it `watch` gives the cores
that processes other than ours kept busy during one measurement: busy time of the whole machine
less CPU time of this process and its descendants.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass
class Watched:
    """Filled in when the block ends: seconds, the 1-minute load, cores used by us and by others."""

    seconds: float = 0.0
    load: float = 0.0
    ours: float = 0.0
    others: float = 0.0


def machine() -> str:
    """CPU model, cores and memory."""
    model = "unknown CPU"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    memory = psutil.virtual_memory().total / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB"


def _ours() -> float:
    """CPU seconds of this process, its living descendants, and those that it has waited for."""
    me = psutil.Process()
    times = me.cpu_times()
    total: float = times.user + times.system + times.children_user + times.children_system
    for child in me.children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += spent.user + spent.system
    return total


def _busy() -> float:
    times = psutil.cpu_times()
    busy: float = (
        sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0)
    )
    return busy


@contextmanager
def watch() -> Iterator[Watched]:
    """Measure the block; processes that end inside it without being waited for are missed."""
    watched = Watched()
    started, ours, busy = time.perf_counter(), _ours(), _busy()
    yield watched
    watched.seconds = time.perf_counter() - started
    watched.load = os.getloadavg()[0]
    watched.ours = (_ours() - ours) / watched.seconds
    watched.others = max(0.0, (_busy() - busy) / watched.seconds - watched.ours)
