"""What is written to the tables of jobs and units. Each is idempotent and part of a commit."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from node.roles.orchestrator.coordinator.units import Unit
from node.roles.orchestrator.ledger.rows import STATES, RowState, pack_outcome


class _Small:
    """A write of a few numbers."""

    @property
    def size(self) -> int:
        """Nothing to speak of."""
        return 64


@dataclass(frozen=True)
class OpenJob(_Small):
    """A job whose units are about to be written. Until it is sealed it is none."""

    job_id: str
    model_id: bytes

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """False where a job of this id is there."""
        done = connection.execute(
            "INSERT INTO jobs (at, job_id, model_id, sampled, sealed, cancelled, refused, content,"
            " ended, exported, shown)"
            " VALUES (?, ?, ?, 0, 0, 0, 0, x'', 0, 0, 0) ON CONFLICT (job_id) DO NOTHING",
            (at, self.job_id, self.model_id),
        )
        return done.rowcount == 1


@dataclass(frozen=True)
class AddUnits:
    """Units of an open job, in order: (unit id, numbers of its first and last prompt, size,
    prompts)."""

    job_id: str
    units: Sequence[tuple[bytes, int, int, int, bytes]]

    @property
    def size(self) -> int:
        """Bytes of the prompts."""
        return sum(64 + len(prompts) for *_, prompts in self.units)

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """All of them, QUEUED."""
        (job,) = connection.execute(
            "SELECT number FROM jobs WHERE job_id = ?", (self.job_id,)
        ).fetchone()
        connection.executemany(
            "INSERT INTO units"
            " (unit_id, job, first, last, size, state, attempt, tokens, epoch, prompts)"
            " VALUES (?, ?, ?, ?, ?, 0, 0, 0, 0, ?) ON CONFLICT (unit_id) DO NOTHING",
            [(unit_id, job, *rest) for unit_id, *rest in self.units],
        )
        return True


@dataclass(frozen=True)
class SealJob(_Small):
    """The job is accepted. `sampled` says that its noise waits for a beacon; `refused` prompts were
    not taken; `content` is the digest of all."""

    job_id: str
    sampled: bool
    refused: int
    content: bytes

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """False where it was already, or is not there."""
        done = connection.execute(
            "UPDATE jobs SET sealed = 1, sampled = ?, refused = ?, content = ?"
            " WHERE job_id = ? AND sealed = 0",
            (int(self.sampled), self.refused, self.content, self.job_id),
        )
        return done.rowcount == 1


@dataclass(frozen=True)
class CancelJob(_Small):
    """Nothing more of the job is to be begun. Its queued rows stay as they are."""

    job_id: str

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """False where it was already."""
        done = connection.execute(
            "UPDATE jobs SET cancelled = 1 WHERE job_id = ? AND cancelled = 0", (self.job_id,)
        )
        return done.rowcount == 1


@dataclass(frozen=True)
class ShowTokens(_Small):
    """So many tokens were shown of the job; no later run shows fewer."""

    job_id: str
    tokens: int

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """False where more were."""
        done = connection.execute(
            "UPDATE jobs SET shown = ?1 WHERE job_id = ?2 AND shown < ?1",
            (self.tokens, self.job_id),
        )
        return done.rowcount == 1


@dataclass(frozen=True)
class EndJobs(_Small):
    """Note of jobs that nothing more will happen to that this is so, from now on."""

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """Whether there were any."""
        done = connection.execute(
            "UPDATE jobs SET ended = ?1 WHERE sealed = 1 AND ended = 0"
            " AND NOT EXISTS (SELECT 1 FROM units WHERE job = number AND state = ?2)"
            " AND (cancelled = 1"
            " OR NOT EXISTS (SELECT 1 FROM units WHERE job = number AND state = ?3))",
            (at, int(RowState.VERIFYING), int(RowState.QUEUED)),
        )
        return done.rowcount > 0


@dataclass(frozen=True)
class ExportJob(_Small):
    """The dataset of a job was read to its end."""

    job_id: str

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """False where the job is not there."""
        done = connection.execute(
            "UPDATE jobs SET exported = ? WHERE job_id = ?", (at, self.job_id)
        )
        return done.rowcount == 1


@dataclass(frozen=True)
class UnsealJob(_Small):
    """The job is to go: what a crash leaves of it is dropped at the next start."""

    job_id: str

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """False where a unit of it is with validators, or it is not there."""
        done = connection.execute(
            "UPDATE jobs SET sealed = 0 WHERE job_id = ?1 AND ended > 0 AND NOT EXISTS"
            " (SELECT 1 FROM units WHERE job = number AND state = ?2)",
            (self.job_id, int(RowState.VERIFYING)),
        )
        return done.rowcount == 1


@dataclass(frozen=True)
class DropUnits(_Small):
    """At most `limit` units of a job that goes, and the job with the last of them."""

    job_id: str
    limit: int = 4096

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """False once nothing is left."""
        found = connection.execute(
            "SELECT number FROM jobs WHERE job_id = ?", (self.job_id,)
        ).fetchone()
        if found is None:
            return False
        connection.execute(
            "DELETE FROM progress WHERE unit IN (SELECT unit_id FROM units WHERE job = ?)", found
        )
        done = connection.execute(
            "DELETE FROM units WHERE cursor IN (SELECT cursor FROM units WHERE job = ? LIMIT ?)",
            (found[0], self.limit),
        )
        if done.rowcount < self.limit:
            connection.execute("DELETE FROM jobs WHERE number = ?", found)
        return done.rowcount == self.limit


@dataclass(frozen=True)
class PutUnit:
    """A unit as it stands now. `packed` is its outcome."""

    unit_id: bytes
    state: RowState
    attempt: int
    tokens: int
    packed: bytes

    @property
    def size(self) -> int:
        """Bytes of the outcome."""
        return len(self.packed)

    @classmethod
    def of(cls, unit: Unit) -> PutUnit:
        """The write of this unit. Raises KeyError for a state that is not kept on disk."""
        tokens = sum(len(s.output_ids) for s in unit.sequences)
        return cls(unit.unit_id, STATES[unit.state], unit.attempt, tokens, pack_outcome(unit))

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """False where the unit had ended before. One that was paid ahead is settled at once. The
        row says more than the notes of what a group had."""
        connection.execute("DELETE FROM progress WHERE unit = ?", (self.unit_id,))
        done = connection.execute(
            "UPDATE units SET state = CASE WHEN ?1 = ?5 AND epoch > 0 THEN ?6 ELSE ?1 END,"
            " attempt = ?2, tokens = ?3, outcome = ?4 WHERE unit_id = ?7 AND state < ?5",
            (
                int(self.state),
                self.attempt,
                self.tokens,
                self.packed,
                int(RowState.ACCEPTED),
                int(RowState.SETTLED),
                self.unit_id,
            ),
        )
        return done.rowcount == 1


@dataclass(frozen=True)
class PayUnits:
    """The epoch that pays these units is final on chain."""

    epoch: int
    payment: str
    unit_ids: Sequence[bytes]

    @property
    def size(self) -> int:
        """Bytes of the ids."""
        return 64 * len(self.unit_ids)

    def apply(self, connection: sqlite3.Connection, at: float) -> bool:
        """Units that are not accepted yet will be settled when they are. A unit is paid once."""
        connection.execute(
            "INSERT INTO epochs VALUES (?, ?) ON CONFLICT (number) DO NOTHING",
            (self.epoch, self.payment),
        )
        connection.executemany(
            "UPDATE units SET epoch = ?, state = CASE WHEN state = ? THEN ? ELSE state END"
            " WHERE unit_id = ? AND epoch = 0",
            [
                (self.epoch, int(RowState.ACCEPTED), int(RowState.SETTLED), unit_id)
                for unit_id in self.unit_ids
            ],
        )
        return True
