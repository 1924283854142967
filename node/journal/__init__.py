"""The node's journal: what it accepted, on disk before it answers."""

from node.journal.reader import read_newest
from node.journal.store import DiskError, Entry, Event, Journal, JournalError, Write
from node.journal.typed import Forget, JournalEvent, OnlyNewest
from node.journal.writer import AsyncJournal, WriterLimits, open_journal

__all__ = [
    "AsyncJournal",
    "DiskError",
    "Entry",
    "Event",
    "Forget",
    "Journal",
    "JournalError",
    "JournalEvent",
    "OnlyNewest",
    "Write",
    "WriterLimits",
    "open_journal",
    "read_newest",
]
