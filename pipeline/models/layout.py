"""How many bytes each part of a model takes: what a planner needs, and nothing heavier.

A stage that serves layers [first, last) holds those layers' weights, the embedding if it is the
first stage, the final norm and output head if it is the last, and a KV cache of `kv_bytes[i]` for
every token and each of its layers. Stages send hidden states of `hidden_size` values of `itemsize`
bytes a token. The module imports neither torch nor transformers, so the control process can use it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class LayerTable:
    """Sizes in bytes. `layer_bytes` and `kv_bytes` (a token) have one entry for each layer.

    `tied`: the output head is the embedding matrix, so a stage that has both stores it once;
    `head_bytes` counts it all the same, since a last stage apart from the first needs its own copy.
    """

    hidden_size: int
    itemsize: int
    layer_bytes: tuple[int, ...]
    kv_bytes: tuple[int, ...]
    embed_bytes: int
    head_bytes: int
    tied: bool

    def __post_init__(self) -> None:
        if not self.layer_bytes or len(self.layer_bytes) != len(self.kv_bytes):
            raise ValueError(
                "a layer table needs one weight and one KV size for each of its layers"
            )
        sizes = (*self.layer_bytes, *self.kv_bytes, self.embed_bytes, self.head_bytes)
        if min(sizes) < 0 or self.hidden_size < 1 or self.itemsize < 1:
            raise ValueError("sizes in a layer table cannot be negative")

    @property
    def layers(self) -> int:
        """Number of decoder layers."""
        return len(self.layer_bytes)

    @property
    def row_bytes(self) -> int:
        """Bytes of one token's hidden state in the compute dtype."""
        return self.hidden_size * self.itemsize

    @property
    def total_bytes(self) -> int:
        """Weights of the whole model in one stage."""
        return self.weights(0, self.layers)

    def weights(self, first: int, last: int) -> int:
        """Bytes of weights of a stage that serves layers [first, last)."""
        self._check(first, last)
        total = sum(self.layer_bytes[first:last])
        if first == 0:
            total += self.embed_bytes
        if last == self.layers:
            total += self.head_bytes
            if first == 0 and self.tied:
                total -= self.embed_bytes
        return total

    def kv(self, first: int, last: int, tokens: int) -> int:
        """Bytes of KV cache for `tokens` positions in layers [first, last)."""
        self._check(first, last)
        return sum(self.kv_bytes[first:last]) * tokens

    def _check(self, first: int, last: int) -> None:
        if not 0 <= first < last <= self.layers:
            raise ValueError(
                f"[{first}, {last}) is no range of layers of a {self.layers}-layer model"
            )
