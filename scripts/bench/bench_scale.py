"""What a long history costs an orchestrator: jobs of a hundred to a million units, from end to end.

    python scripts/bench/bench_scale.py [--units 100 10000] [--full] [--worked N] [--json]

Each number of units is a process of its own: a job of as many prompts, one a unit, is submitted as
a stream, worked off, paid in epochs of 100 units, paged through and exported; the node is then
closed and started again on what it left, and a second job of as many prompts is cancelled. The role
is the real one (journal, ledger, tables, coordinator, settlement watch); workers, engines,
validators and the chain are simulated (`simulated_pool.py`). No bundles are written. `--full` adds
the million, which takes about half an hour on an idle machine; with `--worked N` only the last N
units are worked off, on top of rows that say that all others are done and paid.

"event" is time from the feed of an event until it is journaled and published, in batches as they
come while the disk is busy: wall and CPU over the whole job, and CPU over its last tenth. "alone"
is one event decided by itself, beside the named alternative in the same run: the same rules over a
plain dict of all units that is rescanned, which is how a coordinator is written first (100 and
10,000 units only). "status" is what `prime-node status` asks of the role, looked at meanwhile.
Memory is the whole process, with the simulated network in it.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog
import trio
from machine import machine, watch
from rescanning import rescanning
from simulated_pool import (
    EPOCH,
    STAGES,
    WORKERS,
    Letters,
    PaidChain,
    SimulatedPool,
    claimed,
    context_of,
    coordinator,
    generated,
    judged,
    prompts,
    rss_mib,
)

from node.journal import open_journal
from node.roles.orchestrator.coordinator.coordinator import Coordinator
from node.roles.orchestrator.coordinator.events import (
    Event,
    GroupUp,
    PeerAnnounced,
    PeerJoined,
    PeerPinged,
    PeerValidates,
    QueueRead,
    Tick,
)
from node.roles.orchestrator.coordinator.units import Unit, UnitState
from node.roles.orchestrator.jobs.cutting import JobCutter, job_id_of
from node.roles.orchestrator.ledger.queries import last

MIB = 2**20
PAGE = 500
RESCANNED = 10_000
"""Most units that the alternative is measured with; an event takes it milliseconds by then."""
ROUNDS = 10


@dataclass(frozen=True)
class Row:
    """One job. Times in ms or, with `_s`, in seconds; `rss` is the peak while working, of which
    `rss_start` was there before the job."""

    units: int
    submit_s: float
    event_ms: float
    event_cpu_ms: float
    event_last_ms: float
    status_ms: float
    status_worst_ms: float
    tick_ms: float
    page_ms: float
    export_s: float
    cancel_ms: float
    restart_s: float
    rss_start_mib: float
    rss_mib: float
    journal_mib: float
    epochs_mib: float
    epochs: int
    rss_restarted_mib: float = 0.0


@dataclass(frozen=True)
class Alone:
    """One event decided by itself with so many units done before it, ms, medians."""

    units: int
    ours: float
    rescanning: float

    @property
    def ratio(self) -> float:
        """How many times longer the alternative takes."""
        return self.rescanning / self.ours


class Life:
    """A job's way through one life of the node; what was measured on the way."""

    def __init__(self, units: int, worked: int, folder: Path) -> None:
        self.units = units
        self.worked = min(worked, units) or units
        self.folder = folder
        self.job_id = job_id_of("first")
        self.rss = 0.0
        self._marks: list[tuple[int, float]] = []
        self._statuses: list[float] = []

    async def work(self) -> Row:
        """Submit, work off, page through, export."""
        async with open_journal(self.folder / "journal.sqlite") as journal:
            context = context_of(self.folder, journal)
            chain = PaidChain(context, -(-self.units // EPOCH))
            pool = SimulatedPool(context, chain)
            await pool.start()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.transitions)
                await pool.gather()
                gc.collect()
                before = rss_mib()
                submit = await self._timed(pool.submit_stream(prompts(self.units), "first"))
                self._say(f"submitted in {submit:.0f} s")
                await pool.write_as_done(self.job_id, self.units - self.worked)
                pool.events, pool.seconds, pool.cpu = 0, 0.0, 0.0
                await pool.work_off(lambda: self._look(pool), max(self.worked // 50, 1))
                job = pool.job(self.job_id)
                assert (job.state, job.accepted) == ("finished", self.units), job
                self._say("worked off")
                pages = [await self._timed(self._page(pool, at)) for at in self._positions()]
                export = await self._timed(self._export(pool))
                self._say(f"exported in {export:.0f} s")
                ticks = [await self._timed(pool.feed(Tick())) for _ in range(20)]
                nursery.cancel_scope.cancel()
        first, end = self._marks[len(self._marks) * 9 // 10 - 1], self._marks[-1]
        return Row(
            units=self.units,
            submit_s=submit,
            event_ms=1e3 * pool.seconds / pool.events,
            event_cpu_ms=1e3 * pool.cpu / pool.events,
            event_last_ms=1e3 * (end[1] - first[1]) / max(end[0] - first[0], 1),
            status_ms=1e3 * statistics.median(self._statuses),
            status_worst_ms=1e3 * max(self._statuses),
            tick_ms=1e3 * statistics.median(ticks),
            page_ms=1e3 * statistics.median(pages),
            export_s=export,
            cancel_ms=0.0,
            restart_s=0.0,
            rss_start_mib=before,
            rss_mib=self.rss,
            journal_mib=_size(self.folder.glob("journal.sqlite*")),
            epochs_mib=_size((self.folder / "blobs").iterdir()),
            epochs=chain.history(1).last,
        )

    async def again(self, row: Row) -> Row:
        """Start on what is there, and cancel another job of the same size."""
        started = time.perf_counter()
        async with open_journal(self.folder / "journal.sqlite") as journal:
            context = context_of(self.folder, journal)
            chain = PaidChain(context)
            await chain.restore()
            pool = SimulatedPool(context, chain)
            await pool.start()
            restart = time.perf_counter() - started
            self._say(f"started again in {restart:.1f} s")
            assert pool.job(self.job_id).accepted == self.units
            restarted = rss_mib()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pool.transitions)
                await pool.submit_stream(prompts(self.units), "second")
                cancel = await self._timed(pool.cancel(job_id_of("second")))
                assert pool.job(job_id_of("second")).state == "cancelled"
                self.rss = max(self.rss, rss_mib())
                nursery.cancel_scope.cancel()
        return replace(
            row,
            restart_s=restart,
            cancel_ms=1e3 * cancel,
            rss_mib=self.rss,
            rss_restarted_mib=restarted,
        )

    async def _look(self, pool: SimulatedPool) -> None:
        """What `prime-node status` shows of the role, and where the work stands."""
        started = time.perf_counter()
        pool.snapshot()
        pool.job(self.job_id)
        await pool.work(last(20))
        sum(job.units.total() for job in pool.ledger.jobs.values())
        self._statuses.append(time.perf_counter() - started)
        self._marks.append((pool.events, pool.cpu))
        self.rss = max(self.rss, rss_mib())
        self._say(f"{pool.job(self.job_id).accepted:,} done")

    async def _page(self, pool: SimulatedPool, first: int) -> None:
        for unit in await pool.units_of(self.job_id, first, PAGE):
            for sequence in unit.sequences:
                pool.text(sequence)

    async def _export(self, pool: SimulatedPool) -> None:
        count = 0
        async for rows in pool.dataset(self.job_id):
            count += len(rows)
            self.rss = max(self.rss, rss_mib())
        assert count == self.units, count

    def _say(self, text: str) -> None:
        print(f"{text}, {max(self.rss, rss_mib()):.0f} MiB", file=sys.stderr, flush=True)

    def _positions(self) -> list[int]:
        return [self.units * tenth // 10 for tenth in range(10)]

    @staticmethod
    async def _timed(work: Awaitable[object]) -> float:
        started = time.perf_counter()
        await work
        return time.perf_counter() - started


def _size(paths: Iterable[Path]) -> float:
    return sum(path.stat().st_size for path in paths) / MIB


def alone(units: int) -> Alone:
    """Whole lives of single units, event by event, after `units` that are done; both in turn."""
    cutter = JobCutter(Letters(), b"m" * 32, "bench", 512, unit_size=1, vocab_size=200)
    made = [trio.run(_units, cutter, units, "done"), trio.run(_units, cutter, ROUNDS, "next")]
    done = tuple(replace(unit, state=UnitState.ACCEPTED) for unit in made[0])
    contenders = {"ours": coordinator(), "rescanning": rescanning(coordinator())}
    for each in contenders.values():
        _gather(each)
        each.handle(QueueRead(done), 0.0)
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number, unit in enumerate(made[1]):
        for name, each in contenders.items():
            found[name] += _one_life(each, unit, 1.0 + number)
    return Alone(units, *(1e3 * statistics.median(found[name]) for name in contenders))


async def _units(cutter: JobCutter, count: int, job_id: str) -> list[Unit]:
    made: list[Unit] = []
    async for batch in prompts(count):
        made += cutter.cut(job_id, len(made), batch).units
    return made


def _gather(pool: Coordinator) -> None:
    for number in range(WORKERS):
        name = f"worker{number:02}"
        pool.handle(PeerAnnounced(name, 1 << 34, 0.01, None, ""), 0.0)
        pool.handle(PeerJoined(name, name, name), 0.0)
    for group in list(pool.pool.groups.values()):
        pool.handle(GroupUp(group.group_id, group.generation), 0.0)
    pool.handle(PeerValidates("validator", 1), 0.0)
    assert len(pool.pool.groups) == WORKERS // STAGES


def _one_life(pool: Coordinator, unit: Unit, now: float) -> Iterator[float]:
    """Seconds of each event from the unit's assignment to its verdict, and of a ping."""
    pool.handle(QueueRead((unit,)), now)
    generation = pool.pool.units[unit.unit_id].generation
    events: list[Event] = [PeerPinged("worker00", True), *generated(unit, generation)]
    events += [*claimed(unit.unit_id, generation), *judged(unit.unit_id)]
    for event in events:
        started = time.perf_counter()
        pool.handle(event, now)
        yield time.perf_counter() - started


async def one(units: int, worked: int) -> Row:
    """Everything about one number of units."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "blobs").mkdir()
        life = Life(units, worked, folder)
        return await life.again(await life.work())


def in_child(units: int, worked: int) -> Row:
    """The same in a process of its own, whose memory is that job's alone."""
    command = [sys.executable, __file__, "--one", str(units), "--worked", str(worked)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Row(**json.loads(done.stdout))


def show(rows: list[Row], beside: list[Alone]) -> None:
    """Print both tables and the headlines."""
    first = ("units", "submit s", "event ms", "CPU", "last CPU", "status ms", "worst", "tick ms",
             "page ms", "export s", "cancel ms", "restart s")  # fmt: skip
    print(" ".join(f"{word:>10}" for word in first))
    for row in rows:
        figures = (row.submit_s, row.event_ms, row.event_cpu_ms, row.event_last_ms, row.status_ms,
                   row.status_worst_ms, row.tick_ms, row.page_ms, row.export_s, row.cancel_ms,
                   row.restart_s)  # fmt: skip
        print(f"{row.units:>10,} " + " ".join(f"{figure:>10.3f}" for figure in figures))
    head = ("units", "epochs", "rss MiB", "at start", "restarted", "journal", "epoch data")
    print("\n" + " ".join(f"{word:>10}" for word in head))
    for row in rows:
        print(
            f"{row.units:>10,} {row.epochs:>10,} {row.rss_mib:>10.0f} {row.rss_start_mib:>10.0f}"
            f" {row.rss_restarted_mib:>10.0f} {row.journal_mib:>10.1f} {row.epochs_mib:>10.1f}"
        )
    print(f"\n{'done before':>12} {'alone ms':>10} {'rescanning':>11} {'ratio':>8}")
    for each in beside:
        print(f"{each.units:>12,} {each.ours:>10.4f} {each.rescanning:>11.4f} {each.ratio:>7.1f}x")
    largest, hardest = rows[-1], beside[-1]
    print(
        f"summary: {largest.units:,} units: {largest.event_ms:.3f} ms an event,"
        f" {largest.rss_mib:.0f} MiB, restart {largest.restart_s:.1f} s"
    )
    print(
        f"summary: an event after {hardest.units:,} units: {hardest.ours:.3f} ms, rescanning all"
        f" {hardest.rescanning:.1f} ms ({hardest.ratio:.0f} times)"
    )


def main() -> None:
    """Measure and print, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--units", nargs="+", type=int, default=[100, 10_000])
    parser.add_argument("--full", action="store_true", help="a million units, too")
    parser.add_argument("--worked", type=int, default=0, help="units to work off (default: all)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    if options.one:
        print(json.dumps(asdict(trio.run(one, options.one, options.worked))))
        return
    sizes = [*options.units, 1_000_000] if options.full else options.units
    with watch() as watched:
        rows = [in_child(units, options.worked) for units in sizes]
        beside = [alone(units) for units in sizes if units <= RESCANNED]
    if options.json:
        named = {name: {str(row.units): getattr(row, name) for row in rows} for name in NAMED}
        disk = {str(row.units): row.journal_mib + row.epochs_mib for row in rows}
        report = {
            "machine": machine(),
            **named,
            "disk_mib": disk,
            "rows": [asdict(row) for row in rows],
            "alone": [{**asdict(each), "ratio": each.ratio} for each in beside],
        }
        print(json.dumps(report, indent=1))
        return
    print(f"{machine()}; {watched.others:.2f} cores busy with others\n")
    show(rows, beside)


NAMED = ("event_ms", "tick_ms", "restart_s", "status_ms", "page_ms", "rss_mib")

if __name__ == "__main__":
    main()
