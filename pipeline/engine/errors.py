"""Errors of the engine package.

`EngineError` is the base. Its `code` is one of `operations.ERRORS` (or `died`, which only the
client side raises) and travels over IPC; its `message` says what to do. Subclasses exist where a
caller acts on the difference.
"""

from __future__ import annotations


class EngineError(Exception):
    """A request to the engine failed. `code` is for programs, `message` for people."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class EngineDied(EngineError):
    """The engine process went away before it answered; its state is lost."""

    def __init__(self, message: str) -> None:
        super().__init__("died", message)


class IpcViolation(EngineError):
    """The other end of the IPC socket sent something that is not a valid frame."""

    def __init__(self, message: str) -> None:
        super().__init__("bad_request", message)


class StageViolation(EngineError):
    """A neighbouring stage sent a frame that breaks the rules of the ring."""

    def __init__(self, message: str) -> None:
        super().__init__("edge", message)


class IllegalTransition(EngineError):
    """The scheduler was told something that cannot happen in its present state."""

    def __init__(self, message: str) -> None:
        super().__init__("internal", message)
