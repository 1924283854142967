"""A contiguous range of a model's layers with its weights in memory: what one stage computes.

`load_slice` builds the skeleton, leaves it the slice's layers, and reads just the tensors these
need, by name, from the prepared safetensors. Each tensor is copied out of the file mapping and the
mapping is dropped, so that a stage's resident memory is its own weights and not whatever pages of
the shards were touched.

Buffers that no checkpoint stores (rotary frequencies, embedding scales) are computed by the
architecture's own initialiser; they are filled with NaN first, so one that it forgot is found here
and not in somebody's output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from pipeline.models.checking import Print, fingerprint, open_path
from pipeline.models.errors import InvalidModel, ModelError, UnsupportedModel, unreadable
from pipeline.models.manifest import Manifest
from pipeline.models.prepared import PreparedModel, open_folder, weight_map
from pipeline.models.skeleton import Skeleton, build_skeleton, load_config

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class _HiddenStates(nn.Module):
    """Stands in for the decoder inside the causal-LM wrapper: gives back what it is given, so that
    the wrapper's own forward (head, scaling, soft-capping) can run on rows that we have."""

    def forward(self, *_: Any, inputs_embeds: torch.Tensor, **__: Any) -> Any:
        return SimpleNamespace(
            last_hidden_state=inputs_embeds,
            past_key_values=None,
            hidden_states=None,
            attentions=None,
            router_logits=None,
            cross_attentions=None,
        )


class _Absent(nn.Module):
    """Stands in for a module that other stages run: passes hidden states through, and adds nothing
    where it would have looked up an embedding (of positions, say)."""

    def forward(self, given: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return given if given.is_floating_point() else torch.zeros((), device=given.device)


class ModelSlice:
    """Layers [first, last) of a model, ready to run.

    `forward` maps inputs to hidden states, `logits` maps final hidden states to logits. Which
    tokens attend to which is up to the `context` (see `pipeline.models.attention`). `forward_part`
    does what a slice of fewer layers would. Not thread-safe.
    """

    def __init__(self, skeleton: Skeleton, first: int, last: int, device: torch.device) -> None:
        self._skeleton = skeleton
        self._causal = skeleton.causal
        self._base = skeleton.base
        self.stack: nn.ModuleList = getattr(skeleton.base, skeleton.stack)
        self.first = first
        self.last = last
        self.layers = len(skeleton.layers)
        self.device = device
        config = skeleton.base.config
        self.hidden_size: int = config.hidden_size
        self.vocab_size: int = config.vocab_size
        self.max_positions: int = config.max_position_embeddings
        self.dtype: torch.dtype = skeleton.causal.dtype
        setattr(skeleton.causal, skeleton.prefix, _HiddenStates())
        if not self.is_first:
            self.stack[0].register_forward_pre_hook(_substitute, with_kwargs=True)

    @property
    def is_first(self) -> bool:
        """Whether it has the embedding."""
        return self.first == 0

    @property
    def is_last(self) -> bool:
        """Whether it has the final norm and the head."""
        return self.last == self.layers

    @property
    def weights_bytes(self) -> int:
        """Bytes of weights in memory; a tensor used twice (tied embeddings) counts once."""
        sizes = {tensor.data_ptr(): tensor.nbytes for tensor in self._tensors()}
        return sum(sizes.values())

    def _tensors(self) -> Iterator[torch.Tensor]:
        roots = (self._base, self._causal) if self.is_last else (self._base,)
        for root in roots:
            yield from root.parameters()
            yield from root.buffers()

    def linears(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The weight matrices of the decoder layers (2-D, or 3-D where experts are stacked)."""
        for name, parameter in self.stack.named_parameters():
            if parameter.ndim >= 2:
                yield name, parameter

    def replace_linears(self, make: Callable[[nn.Linear], nn.Module]) -> int:
        """Put `make(linear)` in the place of every plain linear layer of the decoder layers and,
        in the last slice, of the head. Returns the bytes of weights that stay in use elsewhere too
        (the embedding matrix, where a tied head was replaced)."""
        shared = {tensor.data_ptr() for tensor in self._embeddings()}
        twice = 0
        for root in (self.stack, self._causal) if self.is_last else (self.stack,):
            for parent in list(root.modules()):
                for name, child in list(parent.named_children()):
                    if type(child) is nn.Linear:
                        if child.weight.data_ptr() in shared:
                            twice += child.weight.nbytes
                        setattr(parent, name, make(child))
        return twice

    @property
    def norm(self) -> nn.Module:
        """The final norm; in the last slice only."""
        return getattr(self._base, self._skeleton.norm)  # type: ignore[no-any-return]

    @property
    def rotary(self) -> nn.Module | None:
        """What computes the angles of rotary embeddings for all layers, if something does."""
        return getattr(self._base, "rotary_emb", None)

    def _embeddings(self) -> Iterator[torch.Tensor]:
        for module in self._base.modules():
            if isinstance(module, nn.Embedding):
                yield module.weight

    def forward(self, inputs: torch.Tensor, positions: torch.Tensor, context: Any) -> torch.Tensor:
        """Run the slice on one packed batch.

        Args:
            inputs: int64 [N] token ids in the first slice, else [N, H] hidden states in `dtype`.
            positions: int64 [N], each token's position in its own sequence.
            context: a transformers `Cache` that is also a `RaggedContext`.

        Returns:
            [N, H] hidden states in `dtype`; after the final norm in the last slice.
        """
        if self.is_first:
            return self._run(positions, context, input_ids=inputs[None])
        return self._resume(inputs, positions, context)

    def forward_part(
        self, first: int, last: int, inputs: torch.Tensor, positions: torch.Tensor, context: Any
    ) -> torch.Tensor:
        """Run layers [first, last) alone, a range within the slice's, over hidden states [N, H]
        that enter layer `first`; otherwise as `forward` of a slice of just these layers.

        Raises:
            ValueError: the range is not within the slice.
        """
        if not self.first <= first < last <= self.last:
            raise ValueError(f"[{first}, {last}) is not within [{self.first}, {self.last})")
        with self._narrowed(first, last):
            return self._resume(inputs, positions, context)

    @contextmanager
    def _narrowed(self, first: int, last: int) -> Iterator[None]:
        """Make the decoder that of layers [first, last) for a while, as `load_slice` would."""
        skeleton = self._skeleton
        absent = [*skeleton.before] if last == self.layers else [*skeleton.before, skeleton.norm]
        whole = {name: getattr(self._base, name) for name in absent}
        hook = skeleton.layers[first].register_forward_pre_hook(_substitute, with_kwargs=True)
        try:
            skeleton.narrow(first, last)
            for name in absent:
                setattr(self._base, name, _Absent())
            yield
        finally:
            hook.remove()
            skeleton.narrow(self.first, self.last)
            setattr(self._base, skeleton.stack, self.stack)
            for name, module in whole.items():
                setattr(self._base, name, module)

    def _resume(self, rows: torch.Tensor, positions: torch.Tensor, context: Any) -> torch.Tensor:
        context.incoming = rows[None]
        return self._run(positions, context, inputs_embeds=rows[None])

    def _run(self, positions: torch.Tensor, context: Any, **inputs: torch.Tensor) -> torch.Tensor:
        out = self._base(
            **inputs,
            position_ids=positions[None],
            past_key_values=context,
            use_cache=True,
            ragged=context,
        )
        hidden: torch.Tensor = out.last_hidden_state[0]
        return hidden

    def logits(self, rows: torch.Tensor) -> torch.Tensor:
        """Final hidden states [N, H] → float32 logits [N, V]. Last slice only."""
        if not self.is_last:
            raise ModelError("only the last stage has the output head")
        out = self._causal(inputs_embeds=rows[None], use_cache=False)
        logits: torch.Tensor = out.logits[0]
        return logits.float()


def load_slice(
    model: PreparedModel | Path, first: int, last: int, device: str = "cpu"
) -> ModelSlice:
    """Load layers [first, last) of a prepared model, in its pinned dtype.

    Raises:
        InvalidModel: files or tensors are missing or of another shape than the config says.
        UnsupportedModel: the architecture cannot be sliced.
        ValueError: the range is not within the model.
    """
    prepared = model if isinstance(model, PreparedModel) else open_folder(model)
    with prepared.open("config.json"):
        config = load_config(prepared.path)
    manifest = prepared.manifest
    # Before anything is built: a config of a million layers would take forever even on meta.
    if not _fits(config, manifest):
        raise InvalidModel(f"{prepared.path}/config.json is not what the manifest says")
    skeleton = build_skeleton(config, DTYPES[manifest.dtype])
    if not 0 <= first < last <= len(skeleton.layers):
        raise ValueError(f"[{first}, {last}) is no range of layers of {len(skeleton.layers)}")
    target = torch.device(device)
    tied = dict(skeleton.causal.all_tied_weights_keys)
    keep_head = last == len(skeleton.layers)
    names = {
        id(tensor): name for name, tensor in skeleton.causal.state_dict(keep_vars=True).items()
    }
    skeleton.narrow(first, last)
    if first > 0:
        for name in skeleton.before:
            setattr(skeleton.base, name, _Absent())
    if not keep_head:
        setattr(skeleton.base, skeleton.norm, _Absent())
    _rebuild_buffers(skeleton.causal, skeleton.base if not keep_head else skeleton.causal, target)
    slice_ = ModelSlice(skeleton, first, last, target)
    roots = [skeleton.base, skeleton.causal] if keep_head else [skeleton.base]
    with _TensorReader(prepared, target) as reader:
        for root in roots:
            _materialise(root, names, tied, reader)
    return slice_


def _fits(config: Any, manifest: Manifest) -> bool:
    """Whether the configuration, which is part of the identity, says what the manifest says."""
    return (
        config.num_hidden_layers == manifest.layers
        and config.hidden_size == manifest.hidden_size
        and config.vocab_size == manifest.vocab_size
        and config.max_position_embeddings == manifest.max_positions
        and str(config.dtype).removeprefix("torch.") == manifest.dtype
    )


class _TensorReader:
    """Reads tensors by name from a prepared model's shards; a name read twice is one tensor. A
    shard is hashed, or known by its fingerprint, before anything of it is read, and is the same
    open file until its tensors are copied."""

    def __init__(self, model: PreparedModel, device: torch.device) -> None:
        self._model = model
        self._sound: dict[str, Print] = {}
        self._path = model.path
        self._map = weight_map(model)
        self._device = device
        self._stack = ExitStack()
        self._open: tuple[str, Any] | None = None
        self._done: dict[str, nn.Parameter] = {}

    def __enter__(self) -> _TensorReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def get(self, name: str, like: torch.Tensor) -> nn.Parameter:
        """The tensor called `name`, which must have the shape and kind of `like`."""
        if name not in self._done:
            shard = self._map.get(name)
            if shard is None:
                raise InvalidModel(f"{self._path}: no tensor {name}; prepare the model again")
            try:
                stored = self._shard(shard).get_slice(name)
                if tuple(stored.get_shape()) != tuple(like.shape):
                    raise InvalidModel(
                        f"{self._path}: {name} is {stored.get_shape()}, not {list(like.shape)}"
                    )
                tensor = self._shard(shard).get_tensor(name)
            except OSError as exc:
                raise unreadable(self._path / shard, exc) from exc
            except SafetensorError as exc:
                raise InvalidModel(f"{self._path}/{shard}: {exc}; prepare the model again") from exc
            if tensor.is_floating_point() != like.is_floating_point():
                raise InvalidModel(f"{self._path}: {name} is {tensor.dtype}, not {like.dtype}")
            # A copy even on the CPU: the original is a view of the mapped file.
            tensor = tensor.clone() if self._device.type == "cpu" else tensor.to(self._device)
            self._done[name] = nn.Parameter(tensor, requires_grad=False)
        return self._done[name]

    def _shard(self, name: str) -> Any:
        if self._open is None or self._open[0] != name:
            self._stack.close()
            model = self._model
            with model.path.joinpath(name).open("rb") as seen:
                if self._sound.get(name) == fingerprint(seen):
                    model = replace(model, doubted=False)  # hashed anew for this very load
            held = self._stack.enter_context(model.open(name))
            self._sound[name] = fingerprint(held)
            path = open_path(held, self._path / name)
            file = safe_open(path, framework="pt", device="cpu")
            self._open = (name, self._stack.enter_context(file))
        return self._open[1]


def _materialise(
    root: nn.Module, names: dict[int, str], tied: dict[str, str], reader: _TensorReader
) -> None:
    for module in root.modules():
        for own, parameter in list(module._parameters.items()):
            if parameter is not None and parameter.is_meta:
                name = names[id(parameter)]
                module._parameters[own] = reader.get(tied.get(name, name), parameter)
        for own, buffer in list(module._buffers.items()):
            if buffer is not None and buffer.is_meta:
                module._buffers[own] = reader.get(names[id(buffer)], buffer).data


def _rebuild_buffers(causal: Any, root: nn.Module, device: torch.device) -> None:
    for path, module in root.named_modules():
        names = [
            name
            for name in sorted(module._non_persistent_buffers_set)
            if module._buffers.get(name) is not None
        ]
        if not names:
            continue
        for name in names:
            meta = module._buffers[name]
            assert meta is not None
            fill = float("nan") if meta.is_floating_point() else -(2**31)
            module._buffers[name] = torch.full(meta.shape, fill, dtype=meta.dtype, device=device)
        with torch.no_grad():
            causal._init_weights(module)
        for name in names:
            made = module._buffers[name]
            assert made is not None
            unset = made.isnan() if made.is_floating_point() else made == -(2**31)
            if bool(unset.any()):
                raise UnsupportedModel(f"{path}.{name} is computed in a way not known here")


def _substitute(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> Any:
    """Give the first layer what came in, whatever the decoder did to its inputs on the way (some
    scale their embeddings in the decoder itself)."""
    incoming = kwargs["ragged"].incoming
    if args:
        return (incoming, *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": incoming}
