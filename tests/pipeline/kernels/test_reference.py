"""Nobody claims an exact class with kernels that give other bits."""

from __future__ import annotations

import pytest

from pipeline.kernels.library import LEVELS, best_level, library
from pipeline.kernels.reference import DIGEST, first_right, results, usable


@pytest.mark.skipif(library() is None, reason="the kernels are not built")
def test_every_level_of_this_machine_gives_the_bits_that_all_give() -> None:
    found = library()
    assert found is not None
    best = best_level(found)
    assert best is not None
    for number in range(LEVELS.index(best) + 1):
        found.exact_use(number)
        assert results() == DIGEST, LEVELS[number]
    usable.cache_clear()
    assert usable()


def test_a_level_with_other_bits_is_passed_over() -> None:
    right = {"portable": DIGEST, "avx2": DIGEST, "avx512": "0" * 64}
    assert first_right(reversed(LEVELS), right.__getitem__) == "avx2"
    assert first_right(LEVELS, lambda _: "0" * 64) is None
