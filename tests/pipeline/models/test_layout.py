from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.layout import LayerTable
from pipeline.models.prepared import PreparedModel

sizes = st.integers(0, 2**40)


@st.composite
def tables(draw: st.DrawFn) -> LayerTable:
    layers = draw(st.integers(1, 12))
    embed = draw(sizes)
    tied = draw(st.booleans())
    return LayerTable(
        hidden_size=draw(st.integers(1, 10_000)),
        itemsize=draw(st.sampled_from([2, 4])),
        layer_bytes=tuple(draw(st.lists(sizes, min_size=layers, max_size=layers))),
        kv_bytes=tuple(draw(st.lists(sizes, min_size=layers, max_size=layers))),
        embed_bytes=embed,
        head_bytes=draw(sizes) + (embed if tied else 0),
        tied=tied,
    )


@given(table=tables(), data=st.data())
def test_cutting_costs_only_a_second_copy_of_tied_embeddings(
    table: LayerTable, data: st.DataObject
) -> None:
    inner = data.draw(
        st.sets(st.integers(1, table.layers - 1)) if table.layers > 1 else st.just(set())
    )
    cuts = [0, *sorted(inner), table.layers]
    parts = list(pairwise(cuts))
    extra = table.embed_bytes if table.tied and len(parts) > 1 else 0
    assert sum(table.weights(a, b) for a, b in parts) == table.total_bytes + extra
    assert sum(table.kv(a, b, 7) for a, b in parts) == 7 * sum(table.kv_bytes)


@pytest.mark.parametrize(("first", "last"), [(0, 0), (-1, 2), (2, 1), (0, 7)])
def test_ranges_outside_the_model_are_refused(
    tiny_model: Callable[[str], PreparedModel], first: int, last: int
) -> None:
    table = tiny_model("llama").layer_table()
    with pytest.raises(ValueError, match="no range of layers"):
        table.weights(first, last)
    with pytest.raises(ValueError, match="no range of layers"):
        table.kv(first, last, 1)


def test_sizes_of_a_llama(tiny_model: Callable[[str], PreparedModel]) -> None:
    """hidden 48, 4 heads and 2 KV heads of 12, MLP 96, vocabulary 300, float32, tied."""
    table = tiny_model("llama").layer_table()
    attention = 48 * 48 + 2 * 48 * 24 + 48 * 48
    assert table.layer_bytes == (4 * (attention + 3 * 48 * 96 + 2 * 48),) * 6
    assert table.kv_bytes == (2 * 2 * 12 * 4,) * 6
    assert (table.embed_bytes, table.head_bytes) == (4 * 300 * 48, 4 * (300 * 48 + 48))
    assert (table.tied, table.row_bytes) == (True, 192)
