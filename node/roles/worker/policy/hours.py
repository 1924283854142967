"""The hours of the day in which a worker works.

A window is (start, end) in minutes after local midnight and holds `start <= minute < end`; one that
ends before it starts goes over midnight, and one that ends where it starts is the whole day. No
window at all means always. Whoever asks turns the clock into a local minute, so that summer time
is the clock's business.
"""

from __future__ import annotations

from collections.abc import Sequence

MINUTES = 24 * 60

Window = tuple[int, int]


def is_open(windows: Sequence[Window], minute: int) -> bool:
    """Whether `minute` (0 to 1439) lies in a window."""
    return not windows or any(_holds(window, minute) for window in windows)


def minutes_until_change(windows: Sequence[Window], minute: int) -> int | None:
    """How long until `is_open` answers otherwise; None where it never does."""
    now = is_open(windows, minute)
    edges = {edge for window in windows for edge in window}
    waits = ((edge - minute) % MINUTES or MINUTES for edge in edges)
    return min((w for w in waits if is_open(windows, (minute + w) % MINUTES) != now), default=None)


def clock(minute: int) -> str:
    """A minute of the day as people write it, "06:30"."""
    return f"{minute // 60 % 24:02d}:{minute % 60:02d}"


def _holds(window: Window, minute: int) -> bool:
    start, end = window
    if start < end:
        return start <= minute < end
    return minute >= start or minute < end
