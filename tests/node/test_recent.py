"""What was not needed for longest makes room."""

from __future__ import annotations

from node.recent import Recent


def test_the_last_used_stay_whoever_comes() -> None:
    table: Recent[int, str] = Recent(3)
    for number in (1, 2, 3):
        table.put(number, str(number))
    assert table.get(1) == "1"
    for stranger in range(100, 102):
        table.put(stranger, "new")
    assert [table.get(number) for number in (1, 2, 3)] == ["1", None, None]
    table.put(1, "other")
    assert (table.get(1), len(table)) == ("other", 3)
    table.drop(1)
    table.drop(1)
    assert (table.get(1), len(table)) == (None, 2)
