"""Turning a fuzzer's bytes into mutations of valid messages.

A fuzzer hands out byte strings and watches what they do. `Choices` reads one as a list of
decisions, so that a small change of the string is a small change of the message, which is what
coverage guidance needs; a string that has run out decides 0.
"""

from __future__ import annotations

from typing import Any

Message = Any
"""What MessagePack can say: maps, lists, text, bytes, integers, floats, booleans, None."""

STRANGE: list[Message] = [
    None, True, False, 0, 1, -1, 2**31, 2**63 - 1, 2**64 - 1, -(2**63), 0.0, -1.0, 1e308,
    float("nan"), float("inf"), "", "x", "0x" + "00" * 20, "a" * 5000, "\x00", b"", b"\x00",
    bytes(32), b"\xff" * 64, bytes(65), bytes(258), bytes(5000), [], [[]], [None] * 300, {},
    {"": 0}, [[[[[[[[[[]]]]]]]]]],
]  # fmt: skip


class Choices:
    """Decisions read from a byte string."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def below(self, limit: int) -> int:
        """An integer in 0..limit-1 from one byte, or from two where one does not reach."""
        value = self._byte()
        if limit > 256:
            value = value << 8 | self._byte()
        return value % limit

    def rest(self) -> bytes:
        """What has not been read yet."""
        return self._data[self._at :]

    def _byte(self) -> int:
        if self._at >= len(self._data):
            return 0
        self._at += 1
        return self._data[self._at - 1]


def mutate_bytes(data: bytes, choices: Choices) -> bytes:
    """One to four small changes: overwrite, insert, delete, repeat, cut, or add at the end."""
    changed = bytearray(data)
    for _ in range(1 + choices.below(4)):
        kind, place = choices.below(6), choices.below(len(changed) + 1)
        width = 1 + choices.below(4)
        if kind == 0:
            for at in range(place, min(place + width, len(changed))):
                changed[at] = choices.below(256)
        elif kind == 1:
            changed[place:place] = bytes(choices.below(256) for _ in range(width))
        elif kind == 2:
            del changed[place : place + width]
        elif kind == 3:
            changed[place:place] = changed[place : place + 8 * width]
        elif kind == 4:
            del changed[place:]
        else:
            changed += bytes(choices.below(256) for _ in range(width))
    return bytes(changed)


def mutate_message(message: Message, choices: Choices) -> Message:
    """`message` with one part changed, found by walking down from the top."""
    if isinstance(message, dict) and message and choices.below(16):
        name = list(message)[choices.below(len(message))]
        return {**message, name: mutate_message(message[name], choices)}
    if isinstance(message, list | tuple) and message and choices.below(16):
        items, place = list(message), choices.below(len(message))
        items[place] = mutate_message(items[place], choices)
        return items
    return _instead_of(message, choices)


def _instead_of(value: Message, choices: Choices) -> Message:
    kind = choices.below(3)
    if kind == 0:
        return STRANGE[choices.below(len(STRANGE))]
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int):
        return max(-(2**63), min(2**64 - 1, value + choices.below(256) - 128))
    if isinstance(value, bytes):
        return mutate_bytes(value, choices)
    if isinstance(value, str):
        return mutate_bytes(value.encode(), choices).decode(errors="replace")
    if isinstance(value, dict):
        items = list(value.items())
        return dict(_rearranged(items, choices))
    if isinstance(value, list | tuple):
        return _rearranged(list(value), choices)
    return value


def _rearranged(items: list[Message], choices: Choices) -> list[Message]:
    """One item dropped, repeated or moved to the front."""
    if not items:
        return items
    kind, place = choices.below(3), choices.below(len(items))
    if kind == 0:
        return items[:place] + items[place + 1 :]
    if kind == 1:
        return items[: place + 1] + items[place:]
    return [items[place], *items[:place], *items[place + 1 :]]
