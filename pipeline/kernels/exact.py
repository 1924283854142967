"""The kernels for tensors: every shape is checked here, before a pointer is handed on.

The contract is that of `csrc/body.h`: the bits of a row depend on nothing but what belongs to the
row, so neither its neighbours nor the number of threads (torch's) nor the instruction set matter.
All tensors are float32 on the CPU. A shape that does not fit is a bug of the caller: `ValueError`.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass

import torch

from pipeline.kernels.library import Attention, library

BLOCK = 16
"""Key positions in a block of the pool."""
MOST_SIZE = 1024
"""The largest size of a head."""


def available() -> bool:
    """Whether the kernels are built and this processor can run them."""
    return library() is not None


def _library() -> ctypes.CDLL:
    found = library()
    if found is None:
        raise ValueError("the kernels are not built for this machine")
    return found


def _check(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"{what} does not fit")


def _is_matrix(tensor: torch.Tensor, rows: int, columns: int) -> bool:
    return (
        tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.shape == (rows, columns)
        and (tensor.stride(1) == 1 or columns == 1)
    )


def _is_plain(tensor: torch.Tensor, *shape: int) -> bool:
    return (
        tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.shape == shape
        and tensor.is_contiguous()
    )


class Panels:
    """A weight matrix [N, K] and bias [N], laid out for products with rows."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        self.outer, self.inner = weight.shape
        weight = weight.detach().contiguous()
        _check(self.inner > 0 and _is_plain(weight, self.outer, self.inner), "a weight")
        self.bias = None if bias is None else bias.detach().contiguous()
        _check(self.bias is None or _is_plain(self.bias, self.outer), "a bias")
        self._panels = torch.empty(-(-self.outer // BLOCK) * BLOCK * self.inner)
        _library().exact_pack(weight.data_ptr(), self._panels.data_ptr(), self.outer, self.inner)

    @property
    def nbytes(self) -> int:
        """Bytes of the laid out weights and the bias."""
        return self._panels.nbytes + (0 if self.bias is None else self.bias.nbytes)

    def times(self, rows: torch.Tensor, residual: torch.Tensor | None = None) -> torch.Tensor:
        """x Wᵀ + bias + residual, [M, N], for rows x [M, K] and residual [M, N]."""
        count = rows.shape[0]
        _check(_is_matrix(rows, count, self.inner), "a row")
        _check(residual is None or _is_plain(residual, count, self.outer), "a residual")
        out = torch.empty(count, self.outer)
        _library().exact_linear(
            rows.data_ptr(),
            rows.stride(0),
            self._panels.data_ptr(),
            None if self.bias is None else self.bias.data_ptr(),
            None if residual is None else residual.data_ptr(),
            out.data_ptr(),
            count,
            self.inner,
            self.outer,
            torch.get_num_threads(),
        )
        return out


def rms_norm(rows: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """weight * x / sqrt(mean(x²) + eps) of rows x [M, H]; weight [H]."""
    count, size = rows.shape
    _check(_is_plain(rows, count, size) and _is_plain(weight, size), "a row or its weight")
    out = torch.empty_like(rows)
    _library().exact_norm(
        rows.data_ptr(),
        weight.data_ptr(),
        out.data_ptr(),
        count,
        size,
        eps,
        torch.get_num_threads(),
    )
    return out


def silu_mul(both: torch.Tensor) -> torch.Tensor:
    """silu(gate) * up, [M, I], of rows [M, 2 I] that hold a gate and what it gates."""
    count, size = both.shape[0], both.shape[1] // 2
    _check(_is_plain(both, count, 2 * size), "a gate")
    out = torch.empty(count, size)
    _library().exact_silu_mul(both.data_ptr(), out.data_ptr(), count, size, torch.get_num_threads())
    return out


def turn(
    rows: torch.Tensor,
    heads: int,
    cosine: torch.Tensor,
    sine: torch.Tensor,
    weight: torch.Tensor | None = None,
    eps: float = 0.0,
) -> torch.Tensor:
    """Rotary embedding of rows [M, heads * d] by the angles of their positions, `cosine` and `sine`
    [M, d], each head normed with `weight` [d] before if there is one: [M, heads, d]."""
    count, size = cosine.shape
    _check(size % 2 == 0 and size <= MOST_SIZE, "a head's size")
    _check(_is_plain(cosine, count, size) and _is_plain(sine, count, size), "an angle")
    _check(weight is None or _is_plain(weight, size), "a weight")
    _check(_is_matrix(rows, count, heads * size), "a row")
    out = torch.empty(count, heads, size)
    _library().exact_turn(
        rows.data_ptr(),
        rows.stride(0),
        count,
        heads,
        size,
        None if weight is None else weight.data_ptr(),
        eps,
        cosine.data_ptr(),
        sine.data_ptr(),
        out.data_ptr(),
    )
    return out


@dataclass(frozen=True)
class Pieces:
    """Pieces of sequences, int64 [n, 4] rows of (offset, start, count, row): positions start ..
    start+count-1 of the sequence whose position 0 is `offset` in the pool; their queries are rows
    row .. row+count-1."""

    table: torch.Tensor
    rows: int
    end: int

    @staticmethod
    def of(pieces: list[tuple[int, int, int, int]]) -> Pieces:
        """Checked to be within a pool of `end` positions and `rows` rows."""
        _check(all(min(piece) >= 0 and piece[2] > 0 for piece in pieces), "a piece")
        rows = max((row + count for _, _, count, row in pieces), default=0)
        end = max((offset + start + count for offset, start, count, _ in pieces), default=0)
        return Pieces(torch.tensor(pieces, dtype=torch.int64).reshape(-1, 4), rows, end)


class KeyValues:
    """The keys and values of one layer for a pool of positions, laid out for `attend`.

    Keys lie in blocks of 16 positions, [heads, blocks, d, 16], so that a vector holds one
    coordinate of 16 keys; values are [heads, positions, d'].
    """

    def __init__(self, positions: int, heads: int, key_size: int, value_size: int) -> None:
        _check(positions > 0 and heads > 0 and 0 < key_size <= MOST_SIZE, "a pool")
        self.heads, self.key_size, self.value_size = heads, key_size, value_size
        self.blocks = -(-positions // BLOCK)
        self.keys = torch.zeros(heads, self.blocks, key_size, BLOCK)
        # The kernels read a vector at a time, beyond the end of the last row too.
        held = torch.zeros(heads * self.blocks * BLOCK * value_size + BLOCK)
        self.values = held[:-BLOCK].view(heads, self.blocks * BLOCK, value_size)

    @property
    def nbytes(self) -> int:
        """Bytes of the pool."""
        return self.keys.nbytes + self.values.nbytes

    def put(self, keys: torch.Tensor, values: torch.Tensor, at: torch.Tensor) -> None:
        """Write keys [N, heads, d] and values [N, heads, d'] to positions `at`, int64 [N]."""
        count = at.shape[0]
        _check(at.dtype == torch.int64 and at.is_contiguous(), "a list of positions")
        low, high = torch.aminmax(at)
        _check(int(low) >= 0 and int(high) < self.blocks * BLOCK, "a position")
        for given, size in ((keys, self.key_size), (values, self.value_size)):
            _check(
                given.shape == (count, self.heads, size)
                and given.dtype == torch.float32
                and (given.stride(2) == 1 or size == 1),
                "a key or value",
            )
        _library().exact_put(
            keys.data_ptr(),
            keys.stride(0),
            keys.stride(1),
            values.data_ptr(),
            values.stride(0),
            values.stride(1),
            at.data_ptr(),
            count,
            self.heads,
            self.key_size,
            self.value_size,
            self.blocks,
            self.keys.data_ptr(),
            self.values.data_ptr(),
        )

    def move(self, source: int, target: int, count: int) -> None:
        """Copy `count` positions; they may overlap."""
        positions = self.blocks * BLOCK
        _check(min(source, target) >= 0 and max(source, target) + count <= positions, "a move")
        old, new = torch.arange(source, source + count), torch.arange(target, target + count)
        # Blocks and lanes are indexed apart, so the positions come first: [count, heads, d].
        kept = self.keys[:, old // BLOCK, :, old % BLOCK].clone()
        self.keys[:, new // BLOCK, :, new % BLOCK] = kept
        self.values[:, new] = self.values[:, old]

    def attend(
        self, queries: torch.Tensor, pieces: Pieces, scale: float, window: int = 0
    ) -> torch.Tensor:
        """Attention of every query over its own sequence: [N, heads', d'].

        Args:
            queries: [N, heads', d], heads' a multiple of the pool's heads; of any strides but the
                last.
            scale: factor of a score, positive.
            window: how many positions a query sees, its own included; 0: all up to its own.
        """
        count, heads, size = queries.shape
        _check(
            queries.dtype == torch.float32
            and size == self.key_size
            and heads % self.heads == 0
            and (queries.stride(2) == 1 or size == 1),
            "a query",
        )
        _check(pieces.rows <= count and pieces.end <= self.blocks * BLOCK, "a piece")
        _check(scale > 0 and window >= 0, "a scale or window")
        out = torch.empty(count, heads, self.value_size)
        call = Attention(
            q=queries.data_ptr(),
            keys=self.keys.data_ptr(),
            values=self.values.data_ptr(),
            out=out.data_ptr(),
            pieces=pieces.table.data_ptr(),
            q_row=queries.stride(0),
            q_head=queries.stride(1),
            count=len(pieces.table),
            heads=heads,
            key_heads=self.heads,
            key_size=size,
            value_size=self.value_size,
            blocks=self.blocks,
            window=window,
            scale=scale,
        )
        threads = torch.get_num_threads()
        found = _library()
        scratch = _scratch(found.exact_scratch(call) * threads)
        call.scratch = scratch.data_ptr()
        found.exact_attend(call, threads)
        return out


class _Local(threading.local):
    """Memory that calls use and leave, one for each thread, since layers ask for the same."""

    def __init__(self) -> None:
        self.scratch = torch.empty(0)


_local = _Local()


def _scratch(floats: int) -> torch.Tensor:
    if _local.scratch.numel() < floats:
        _local.scratch = torch.empty(floats)
    return _local.scratch
