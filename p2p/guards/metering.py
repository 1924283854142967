"""Measuring what a task costs while it runs: the CPU time of each of its steps.

A task runs from one checkpoint to the next without anybody else in between, so the thread's CPU
clock before and after a step says what the step cost. The steps of tasks that it starts, and work
in other threads, are not in it.
"""

from __future__ import annotations

import time
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")
LEAST = 0.0005
"""Seconds that are gathered before they are told, so that telling costs little beside them."""


@types.coroutine
def metered(work: Coroutine[Any, Any, T], spend: Callable[[float], None]) -> Generator[Any, Any, T]:
    """`await metered(work, spend)` is `await work`; `spend` is told the CPU seconds as they are
    spent, at the latest when the work ends, in whatever way."""
    send: Callable[[], Any] = lambda: work.send(None)  # noqa: E731
    unsaid = 0.0
    try:
        while True:
            started = time.thread_time()
            try:
                trap = send()
            except StopIteration as end:
                result: T = end.value
                return result
            finally:
                unsaid += time.thread_time() - started
            if unsaid >= LEAST:
                said, unsaid = unsaid, 0.0
                spend(said)
            try:
                answer = yield trap
            except GeneratorExit:
                work.close()
                raise
            except BaseException as exc:  # noqa: BLE001  (the work decides what becomes of it)
                send = _thrower(work, exc)
            else:
                send = _sender(work, answer)
    finally:
        spend(unsaid)


def _sender(work: Coroutine[Any, Any, Any], answer: Any) -> Callable[[], Any]:
    return lambda: work.send(answer)


def _thrower(work: Coroutine[Any, Any, Any], exc: BaseException) -> Callable[[], Any]:
    return lambda: work.throw(exc)
