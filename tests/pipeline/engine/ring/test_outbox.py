"""Frames leave in order, few at a time, and nobody waits for ever."""

from __future__ import annotations

import threading

from pipeline.engine.ring.outbox import Outbox, OutFrame

WAIT = 60.0


def frame(number: int) -> OutFrame:
    return OutFrame(bytes([number]), None)


def test_frames_come_out_in_order_and_a_full_outbox_holds_compute_up() -> None:
    outbox = Outbox(slots=2)
    put: list[int] = []
    third = threading.Event()

    def compute() -> None:
        for number in range(5):
            assert outbox.put(frame(number))
            put.append(number)
            if number == 2:
                third.set()

    thread = threading.Thread(target=compute)
    thread.start()
    taken = [outbox.take()]
    assert third.wait(WAIT)
    assert len(put) <= 3
    taken += [outbox.take() for _ in range(4)]
    thread.join(WAIT)
    assert taken == [frame(number) for number in range(5)]


def test_closing_frees_whoever_waits() -> None:
    full, empty = Outbox(slots=1), Outbox()
    assert full.put(frame(0))
    results: list[object] = []
    threads = [
        threading.Thread(target=lambda: results.append(full.put(frame(1)))),
        threading.Thread(target=lambda: results.append(empty.take())),
    ]
    for thread in threads:
        thread.start()
    full.close()
    empty.close()
    for thread in threads:
        thread.join(WAIT)
    assert sorted(map(str, results)) == ["False", "None"]
    assert not full.put(frame(2))
    assert full.take() is None
