"""What one hostile peer can do to a node: event-loop lag, an honest peer's answers, memory.

    python scripts/bench/bench_hostile.py [--seconds 10] [--rounds 3] [--json]

A node in this process serves real methods with handlers that do nothing. In processes of their own
an honest peer asks it a small question twenty times a second, and an attacker misuses all protocols
with all the streams that it may open: uploads of 8 MiB that lack their last byte, reports that take
long to decode, questions to the DHT, pages of records, gossip full of signed messages. Three cases
take turns: nobody attacks; the attack on a node without budgets; the attack on a node as it is.

Then handshakes: how long an honest peer takes to connect and get its first answer while 512 silent
sockets from its own subnet hold all places, and while nobody does. Figures are medians of the
rounds. "step" is the longest that the loop itself computed between two looks at the clock, in CPU
time, which other processes do not disturb; "others" are cores that they kept busy meanwhile.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import Connection

import psutil
import structlog
import trio
from hostile_peers import NETWORK, PING, serve_orders
from machine import machine, watch

from node.wire.messages.fields import Body, Done
from node.wire.methods import ASSIGN, COUNTERSIGN, PROGRESS
from node.wire.rpc import serve
from p2p.admission.budgets import BudgetLimits
from p2p.admission.shares import Limits, Share
from p2p.network import Network, NetworkConfig, Validity, open_network

MIB = 2**20
TICK = 0.002  # seconds between two looks at the clock
SILENT = 512
UNDER_WAY = 100  # streams
ENDLESS = Share(1e15, 1e15, 1e15)
NO_LIMITS = Limits(ENDLESS, ENDLESS, ENDLESS, kept=0)
UNLIMITED = BudgetLimits(bytes=NO_LIMITS, streams=NO_LIMITS, cpu=NO_LIMITS)
CASES: dict[str, tuple[BudgetLimits, bool]] = {
    "nobody attacks": (BudgetLimits(), False),
    "attack, without budgets": (UNLIMITED, True),
    "attack, with budgets": (BudgetLimits(), True),
}
Say = Callable[[str], None]
Figures = dict[str, float]


@dataclass(frozen=True)
class Row:
    """Medians of one case: lag and answers in milliseconds, memory in MiB, shares of one core."""

    case: str
    lag_median: float
    lag_p99: float
    step_p99: float
    step_worst: float
    answer_median: float
    answer_p99: float
    refused: float
    held: float
    rss: float
    cpu: float
    others: float


class Peer:
    """A process of `hostile_peers`."""

    def __init__(self, name: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve_orders, args=(theirs, name), daemon=True)
        self._process.start()
        assert self._pipe.recv() == "ready"

    async def play(self, address: str, seconds: float, turn: int) -> Figures:
        """Have it do its part against the node at `address`."""
        self._pipe.send((address, seconds, turn))
        return await trio.to_thread.run_sync(_figures, self._pipe)

    def close(self) -> None:
        """End the process."""
        self._pipe.send(None)
        self._process.join(30)


def _figures(pipe: Connection) -> Figures:
    figures: Figures = pipe.recv()
    return figures


@asynccontextmanager
async def open_node(budgets: BudgetLimits) -> AsyncIterator[Network]:
    """The node under attack."""

    async def done(peer_id: str, body: Body) -> Body:
        return Done()

    async def ping(peer_id: str, payload: bytes) -> bytes:
        return payload

    async def heard(author: str, data: bytes) -> None: ...

    key = hashlib.sha256(b"victim").digest()
    config = NetworkConfig(network=NETWORK, budgets=budgets)
    async with open_network(config, key) as network:
        for method in (ASSIGN, COUNTERSIGN, PROGRESS):
            serve(network, method, done)
        network.serve(PING, ping)
        network.subscribe("bench", lambda author, data: Validity.ACCEPT, heard)
        yield network


@dataclass
class Seen:
    """Lags and CPU times of the loop's steps in seconds, and the most memory and bytes held."""

    lags: list[float]
    steps: list[float]
    rss: int = 0
    held: int = 0

    async def look(self, network: Network) -> None:
        """Look until cancelled."""
        process, count = psutil.Process(), 0
        while True:
            started, spent = time.perf_counter(), time.thread_time()
            await trio.sleep(TICK)
            self.steps.append(time.thread_time() - spent)
            self.lags.append(max(0.0, time.perf_counter() - started - TICK))
            self.held = max(self.held, network.budgets.bytes.held)
            count += 1
            if count % 50 == 0:
                self.rss = max(self.rss, process.memory_info().rss)


async def attacked(
    case: str, attacker: Peer, honest: Peer, seconds: float, turn: int
) -> tuple[Row, Figures]:
    """One round of one case, and what the attacker counted."""
    budgets, attack = CASES[case]
    seen, counted = Seen([], []), Figures()
    async with trio.open_nursery() as attacking:

        async def misuse(address: str) -> None:
            counted.update(await attacker.play(address, 600.0, turn))

        async with open_node(budgets) as network:
            if attack:
                attacking.start_soon(misuse, network.addresses[0])
                await under_way(network)
            spent = time.thread_time()
            with watch() as watched:
                async with trio.open_nursery() as looking:
                    looking.start_soon(seen.look, network)
                    answers = await honest.play(network.addresses[0], seconds, turn)
                    looking.cancel_scope.cancel()
            cpu = (time.thread_time() - spent) / watched.seconds
    lags, steps = sorted(seen.lags), sorted(seen.steps)
    row = Row(
        case,
        1000 * lags[len(lags) // 2],
        1000 * lags[int(len(lags) * 0.99)],
        1000 * steps[int(len(steps) * 0.99)],
        1000 * steps[-1],
        answers["answer_median_ms"],
        answers["answer_p99_ms"],
        answers["refused"] / max(1.0, answers["asked"]),
        seen.held / MIB,
        seen.rss / MIB,
        cpu,
        watched.others,
    )
    return row, counted


async def under_way(network: Network) -> None:
    """Wait until the attacker has most of its streams, or half a minute: budgets may stop it."""
    with trio.move_on_after(30.0):
        while network.budgets.streams.held < UNDER_WAY:  # noqa: ASYNC110  (nothing tells)
            await trio.sleep(0.1)


async def first_answer(network: Network, turn: int) -> float:
    """Seconds until a newcomer is connected and has an answer."""
    key = hashlib.sha256(f"newcomer {turn}".encode()).digest()
    async with open_network(NetworkConfig(network=NETWORK), key) as newcomer:
        started = time.perf_counter()
        await newcomer.connect(network.addresses[0], timeout=60.0)
        await newcomer.request(network.peer_id, PING, b"?", timeout=60.0)
        return time.perf_counter() - started


@asynccontextmanager
async def silent_sockets(network: Network) -> AsyncIterator[None]:
    """Sockets that say nothing, opened anew as soon as the node closes one."""
    parts = network.addresses[0].split("/")
    host, port = parts[2], int(parts[4])

    async def hold() -> None:
        while True:
            try:
                async with await trio.open_tcp_stream(host, port) as stream:
                    await stream.receive_some(1)
                    while await stream.receive_some(4096):
                        pass
            except OSError:
                await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        for _ in range(SILENT):
            nursery.start_soon(hold)
        with trio.move_on_after(10.0):
            while network._host.get_network().inbound_connections < 64:  # noqa: ASYNC110
                await trio.sleep(0.05)
        yield
        nursery.cancel_scope.cancel()


async def handshakes(rounds: int) -> Figures:
    """Milliseconds to a newcomer's first answer, without and with silent sockets."""
    alone, crowded = [], []
    async with open_node(BudgetLimits()) as network:
        for turn in range(rounds):
            alone.append(await first_answer(network, 2 * turn))
            async with silent_sockets(network):
                crowded.append(await first_answer(network, 2 * turn + 1))
    return {
        "alone_ms": 1000 * statistics.median(alone),
        "silent_sockets_ms": 1000 * statistics.median(crowded),
        "silent_sockets_worst_ms": 1000 * max(crowded),
    }


HEAD = (
    f"{'':24} {'lag':>7} {'p99':>8} {'step p99':>8} {'worst':>6}   {'answer':>8} {'p99':>8} "
    f"{'refused':>8}   "
    f"{'held':>6} {'RSS':>6}   {'CPU':>5} {'others':>6}"
)


def line(row: Row) -> str:
    """A row as text."""
    return (
        f"{row.case:24} {row.lag_median:7.1f} {row.lag_p99:8.1f} {row.step_p99:8.1f} "
        f"{row.step_worst:6.1f}   "
        f"{row.answer_median:8.1f} {row.answer_p99:8.1f} {row.refused:8.1%}   "
        f"{row.held:6.1f} {row.rss:6.0f}   {row.cpu:5.0%} {row.others:6.2f}"
    )


def median_row(case: str, rows: list[Row]) -> Row:
    """The median of each figure."""
    columns = zip(*(list(asdict(row).values())[1:] for row in rows), strict=True)
    return Row(case, *(statistics.median(column) for column in columns))


@contextmanager
def peers() -> Iterator[tuple[Peer, Peer]]:
    """The attacker's and the honest peer's process."""
    attacker, honest = Peer("attacker"), Peer("honest")
    try:
        yield attacker, honest
    finally:
        attacker.close()
        honest.close()


async def run(options: argparse.Namespace, say: Say, pair: tuple[Peer, Peer]) -> dict[str, object]:
    """All measurements, as a report for `--json`."""
    start = psutil.Process().memory_info().rss / MIB
    say(f"{machine()}\nlag and answers in ms, memory in MiB, {options.seconds:g} s a round\n")
    say(HEAD)
    rounds: dict[str, list[Row]] = {case: [] for case in CASES}
    counted: dict[str, list[Figures]] = {case: [] for case in CASES}
    for turn in range(options.rounds):
        for number, case in enumerate(CASES):
            row, figures = await attacked(case, *pair, options.seconds, 10 * turn + number)
            rounds[case].append(row)
            counted[case].append(figures)
    rows = [median_row(case, rounds[case]) for case in CASES]
    for row in rows:
        say(line(row))
    shaken = await handshakes(options.rounds)
    end = psutil.Process().memory_info().rss / MIB
    say(
        f"\nfirst answer to a newcomer: {shaken['alone_ms']:.0f} ms, with {SILENT} silent sockets "
        f"{shaken['silent_sockets_ms']:.0f} ms (worst {shaken['silent_sockets_worst_ms']:.0f})"
    )
    say(f"resident memory: {start:.0f} MiB at the start, {end:.0f} MiB at the end")
    by_case = {row.case: row for row in rows}
    with_, without = by_case["attack, with budgets"], by_case["attack, without budgets"]
    say(
        f"summary: under attack the loop's lag p99 is {with_.lag_p99:.0f} ms "
        f"({without.lag_p99:.0f} without budgets, {rows[0].lag_p99:.0f} in peace), "
        f"RSS {with_.rss:.0f} MiB ({without.rss:.0f})"
    )
    return {
        "machine": machine(),
        "rows": rows,
        "rounds": rounds,
        "attacker": counted,
        "handshakes": shaken,
        "rss_mib": [start, end],
    }


def main() -> None:
    """Measure and print, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    say = (lambda _text: None) if options.json else partial(print, flush=True)
    with peers() as pair:
        report = trio.run(run, options, say, pair)
    if options.json:
        print(json.dumps(report, default=asdict, indent=1))


if __name__ == "__main__":
    main()
