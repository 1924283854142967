"""Stored transactions: the SQLite tables behind the state machine.

`intent` holds what the caller asked for and how far it came, `attempt` every signed byte string
ever made for it. A state and the attempts that belong to it are written in one database
transaction, so no crash can leave a nonce without its bytes. Rows are never deleted: a finished
transaction is the proof that its idempotency key was used.
"""

from __future__ import annotations

import sqlite3

from chain.database import Database
from chain.errors import InvalidInput
from chain.transactions.machine import FINAL, Attempt, Mined, State, Transaction
from chain.transactions.signing import Fees

MAX_KEY = 256

_TABLES = """
CREATE TABLE IF NOT EXISTS intent (
    row INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, recipient TEXT, data BLOB NOT NULL,
    value TEXT NOT NULL, gas INTEGER NOT NULL, state TEXT NOT NULL, nonce INTEGER,
    sent_at INTEGER, refusal TEXT NOT NULL, mined_hash BLOB, block_number INTEGER,
    block_hash BLOB, gas_used INTEGER, succeeded INTEGER) STRICT;
CREATE TABLE IF NOT EXISTS attempt (
    row INTEGER PRIMARY KEY, key TEXT NOT NULL REFERENCES intent (key), hash BLOB NOT NULL UNIQUE,
    raw BLOB NOT NULL, nonce INTEGER NOT NULL, max_fee TEXT NOT NULL, tip TEXT NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS intent_nonce ON intent (nonce);
CREATE INDEX IF NOT EXISTS attempt_key ON attempt (key);
"""
_COLUMNS = (
    "key, recipient, data, value, gas, state, nonce, sent_at, refusal, "
    "mined_hash, block_number, block_hash, gas_used, succeeded"
)


class TransactionStore:
    """Blocking; run through `Database.run`. Raises StoreError when the file fails."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.transaction() as cursor:
            for statement in _TABLES.split(";")[:-1]:
                cursor.execute(statement)

    def add(self, tx: Transaction) -> Transaction:
        """Store a PLANNED transaction, or return the one already stored under its key.

        Raises InvalidInput when the key was used for another recipient, value or data.
        """
        if not 0 < len(tx.key) <= MAX_KEY:
            raise InvalidInput(f"an idempotency key has 1 to {MAX_KEY} characters")
        with self.database.transaction() as cursor:
            known = _load(cursor, tx.key)
            if known is None:
                _write(cursor, tx)
                return tx
        if (known.to, known.data, known.value) != (tx.to, tx.data, tx.value):
            raise InvalidInput(
                f"the key {tx.key!r} was used for another transaction; choose a new one"
            )
        return known

    def save(self, tx: Transaction) -> None:
        """Write a transaction's state and its new attempts, at once."""
        with self.database.transaction() as cursor:
            _write(cursor, tx)
            for attempt in tx.attempts:
                cursor.execute(
                    "INSERT INTO attempt (key, hash, raw, nonce, max_fee, tip)"
                    " VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (hash) DO NOTHING",
                    (
                        tx.key,
                        attempt.hash,
                        attempt.raw,
                        tx.nonce,
                        str(attempt.fees.max_fee),
                        str(attempt.fees.tip),
                    ),
                )

    def get(self, key: str) -> Transaction | None:
        """The transaction under `key`."""
        with self.database.transaction() as cursor:
            return _load(cursor, key)

    def owner(self, tx_hash: bytes) -> str | None:
        """The key of the transaction for which the bytes with this hash were signed."""
        with self.database.transaction() as cursor:
            row = cursor.execute("SELECT key FROM attempt WHERE hash = ?", (tx_hash,)).fetchone()
            return None if row is None else str(row[0])

    def count(self, prefix: str) -> int:
        """How many transactions have a key that begins with `prefix`."""
        with self.database.transaction() as cursor:
            row = cursor.execute(
                "SELECT count(*) FROM intent WHERE substr(key, 1, ?) = ?", (len(prefix), prefix)
            ).fetchone()
            return int(row[0])

    def unfinished(self, prefix: str = "") -> list[Transaction]:
        """Transactions that are not final and whose key begins with `prefix`, oldest first."""
        marks = ", ".join("?" * len(FINAL))
        with self.database.transaction() as cursor:
            rows = cursor.execute(
                f"SELECT key FROM intent WHERE state NOT IN ({marks})"
                " AND substr(key, 1, ?) = ? ORDER BY row",
                (*sorted(FINAL), len(prefix), prefix),
            ).fetchall()
            loaded = (_load(cursor, row[0]) for row in rows)
            return [tx for tx in loaded if tx is not None]

    def executed_from(self, nonce: int) -> list[Transaction]:
        """Transactions that are final, were mined, and have `nonce` or a higher one, lowest first.

        With the account's transaction count as `nonce`, these have left the chain again.
        """
        with self.database.transaction() as cursor:
            rows = cursor.execute(
                "SELECT key FROM intent WHERE nonce >= ? AND state IN (?, ?) ORDER BY nonce",
                (nonce, State.CONFIRMED, State.REVERTED),
            ).fetchall()
            loaded = (_load(cursor, row[0]) for row in rows)
            return [tx for tx in loaded if tx is not None]


def _write(cursor: sqlite3.Cursor, tx: Transaction) -> None:
    mined = tx.mined
    values = (
        tx.key,
        tx.to,
        tx.data,
        str(tx.value),
        tx.gas,
        tx.state,
        tx.nonce,
        tx.sent_at,
        tx.refusal,
        mined.hash if mined else None,
        mined.block_number if mined else None,
        mined.block_hash if mined else None,
        mined.gas_used if mined else None,
        int(mined.succeeded) if mined else None,
    )
    names = _COLUMNS.split(", ")
    updates = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
    cursor.execute(
        f"INSERT INTO intent ({_COLUMNS}) VALUES ({', '.join('?' * len(names))})"
        f" ON CONFLICT (key) DO UPDATE SET {updates}",
        values,
    )


def _load(cursor: sqlite3.Cursor, key: str) -> Transaction | None:
    row = cursor.execute(f"SELECT {_COLUMNS} FROM intent WHERE key = ?", (key,)).fetchone()
    if row is None:
        return None
    _, to, data, value, gas, state, nonce, sent_at, refusal, *mined = row
    # Attempts at an older nonce belong to an abandoned plan and can never be mined again.
    attempts = cursor.execute(
        "SELECT hash, raw, max_fee, tip FROM attempt WHERE key = ? AND nonce = ? ORDER BY row",
        (key, nonce),
    ).fetchall()
    return Transaction(
        key=key,
        to=to,
        data=data,
        value=int(value),
        gas=gas,
        state=State(state),
        nonce=nonce,
        attempts=tuple(
            Attempt(tx_hash, raw, Fees(int(max_fee), int(tip)))
            for tx_hash, raw, max_fee, tip in attempts
        ),
        sent_at=sent_at,
        mined=_mined(mined) if mined[0] is not None else None,
        refusal=refusal,
    )


def _mined(columns: list[object]) -> Mined:
    tx_hash, number, block_hash, gas_used, succeeded = columns
    assert isinstance(tx_hash, bytes)
    assert isinstance(number, int)
    assert isinstance(block_hash, bytes)
    assert isinstance(gas_used, int)
    return Mined(tx_hash, number, block_hash, gas_used, bool(succeeded))
