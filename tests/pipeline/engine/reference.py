"""What transformers itself generates from the whole model, to compare a ring with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from transformers import AutoModelForCausalLM

from pipeline.models.prepared import PreparedModel

TIE = 1e-4
"""Where the two largest logits are this close, either token is right."""


@dataclass
class Comparison:
    """`different` sequences deviate where no tie excuses it; `ties` is how many did at a tie."""

    different: dict[int, int]
    ties: int


class Reference:
    """The whole model in float32."""

    def __init__(self, model: PreparedModel) -> None:
        self._model = AutoModelForCausalLM.from_pretrained(model.path, dtype=torch.float32).eval()

    @torch.inference_mode()
    def greedy(self, prompt: Sequence[int], max_tokens: int, eos: Sequence[int]) -> list[int]:
        """Output ids of `generate`, the end-of-sequence token included."""
        output = self._model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
            max_new_tokens=max_tokens,
            do_sample=False,
            eos_token_id=list(eos) or None,
            pad_token_id=0,
        )
        ids: list[int] = output[0, len(prompt) :].tolist()
        return ids

    @torch.inference_mode()
    def gap(self, prompt: Sequence[int], output: Sequence[int], position: int) -> float:
        """Distance of the two largest logits for output `position`, given the ones before it."""
        ids = torch.tensor([[*prompt, *output[:position]]])
        top = self._model(ids).logits[0, -1].topk(2).values
        return float(top[0] - top[1])

    def compare(
        self,
        prompts: Mapping[int, Sequence[int]],
        expected: Mapping[int, Sequence[int]],
        outputs: Mapping[int, Sequence[int]],
    ) -> Comparison:
        """Compare up to each sequence's first tie; after one, texts may differ."""
        result = Comparison({}, 0)
        for key, wanted in expected.items():
            got = outputs[key]
            at = next(
                (i for i, (a, b) in enumerate(zip(wanted, got, strict=False)) if a != b),
                None if len(wanted) == len(got) else min(len(wanted), len(got)),
            )
            if at is None:
                continue
            if self.gap(prompts[key], wanted, at) < TIE:
                result.ties += 1
            else:
                result.different[key] = at
        return result
