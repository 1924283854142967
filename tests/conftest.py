"""How the tests are spread over processes. `make test` runs `pytest -n auto --dist loadgroup`.

What takes minutes is marked `slow(minutes)` and starts first, the longest of it before the rest, so
that no process is left alone with it at the end. Tests that share a fixture of their module stay in
one process. So do all networks of real processes (`xdist_group`): each keeps the cores busy by
itself, and two at once miss their deadlines. All other tests go to whichever process is free.
"""

from __future__ import annotations

import os

import pytest
import structlog

MAX_PROCESSES = 8


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """How many processes `-n auto` means: one for each core, and one for the networks of processes,
    which wait for their own. At most `MAX_PROCESSES`."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return min(MAX_PROCESSES, (cores or 1) + 1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="scenarios in their full size")


@pytest.fixture
def full_size(request: pytest.FixtureRequest) -> bool:
    """Whether scenarios run in their full size, as `make test-full` asks."""
    return bool(request.config.getoption("full"))


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Several processes share the cores, so each gets one thread of its own to compute with. Logs
    have plain tracebacks, as nodes write them: drawn ones take most of a second each."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.dev.ConsoleRenderer(
                colors=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    )
    if config.getoption("numprocesses", None):
        for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            os.environ.setdefault(name, "1")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares a fixture, and begin with what takes longest."""
    for item in items:
        if shares_a_fixture(item) and item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.nodeid.partition("::")[0]))
    items.sort(key=minutes, reverse=True)


def minutes(item: pytest.Item) -> float:
    """What its `slow` marker says; 0 where it has none."""
    marker = item.get_closest_marker("slow")
    return 0.0 if marker is None else float(marker.args[0])


def shares_a_fixture(item: pytest.Item) -> bool:
    """Whether it uses a fixture that its module or class sets up once."""
    info = getattr(item, "_fixtureinfo", None)
    found = info.name2fixturedefs.values() if info is not None else ()
    return any(fixtures[-1].scope in ("class", "module", "package") for fixtures in found)
