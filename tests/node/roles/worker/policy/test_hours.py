"""Windows of the local day, over midnight too."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from node.roles.worker.policy.hours import MINUTES, clock, is_open, minutes_until_change

MINUTE = st.integers(0, MINUTES - 1)
WINDOWS = st.lists(st.tuples(MINUTE, MINUTE), max_size=4)


def test_a_window_holds_its_start_and_not_its_end() -> None:
    day = [(9 * 60, 17 * 60)]
    assert [is_open(day, m) for m in (539, 540, 1019, 1020)] == [False, True, True, False]


def test_a_window_may_go_over_midnight() -> None:
    night = [(22 * 60, 6 * 60 + 30)]
    assert is_open(night, 23 * 60)
    assert is_open(night, 0)
    assert is_open(night, 389)
    assert not is_open(night, 390)
    assert minutes_until_change(night, 23 * 60) == 60 + 390


def test_no_window_and_a_whole_day_never_close() -> None:
    for windows in ([], [(600, 600)], [(0, 720), (720, 0)]):
        assert is_open(windows, 600)
        assert minutes_until_change(windows, 600) is None


def test_minutes_are_written_as_people_do() -> None:
    assert clock(390) == "06:30"
    assert clock(MINUTES + 5) == "00:05"


@given(WINDOWS, MINUTE)
def test_it_answers_the_same_until_the_change_and_otherwise_then(windows, minute) -> None:
    change = minutes_until_change(windows, minute)
    after = [is_open(windows, (minute + ahead) % MINUTES) for ahead in range(MINUTES)]
    same = all(answer == after[0] for answer in after[: change or MINUTES])
    assert same
    if change is not None:
        assert is_open(windows, (minute + change) % MINUTES) != after[0]
