"""Decode speed of one StageRunner over the whole model beside transformers `generate`.

    python scripts/bench/bench_runner.py [--store DIR] [--model smollm2] [--threads 1]
        [--batch 1 4 16] [--repeat 3]

Both run in this process, turn by turn, on prompts of about 64 tokens and 32 new tokens, greedy.
Prints decode tokens a second over all sequences (median of the repeats) and the ratio.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from pipeline.models.slice import load_slice
from pipeline.models.store import open_model
from pipeline.runner.stage import StageRunner, StepItem

NEW = 32


def prompts(batch: int, vocab: int, even: bool) -> list[torch.Tensor]:
    """Random token ids, 64 each, or 48 to 80 as they come when `even` is false."""
    generator = torch.Generator().manual_seed(batch)
    lengths = [64 if even else 48 + (i * 7) % 33 for i in range(batch)]
    return [torch.randint(5, vocab, (n,), generator=generator) for n in lengths]


def run_ours(runner: StageRunner, ids: list[torch.Tensor]) -> float:
    """Seconds of decoding NEW - 1 tokens for each sequence, prefill excluded."""
    names = [bytes([i]) * 16 for i in range(len(ids))]
    tokens = []
    for name, prompt in zip(names, ids, strict=True):
        runner.open(name, len(prompt) + NEW)
        rows = runner.step([StepItem(name, 0, len(prompt))], prompt)
        tokens.append(runner.logits(rows[-1:]).argmax(-1))
    current = torch.cat(tokens)
    start = time.perf_counter()
    for step in range(NEW - 1):
        items = [
            StepItem(name, len(prompt) + step, 1) for name, prompt in zip(names, ids, strict=True)
        ]
        current = runner.logits(runner.step(items, current)).argmax(-1)
    seconds = time.perf_counter() - start
    for name in names:
        runner.close(name)
    return seconds


def run_generate(model: Any, ids: list[torch.Tensor]) -> float:
    """The same with `generate`: time for NEW tokens less time for one."""
    longest = max(len(prompt) for prompt in ids)
    padded = torch.zeros(len(ids), longest, dtype=torch.long)
    mask = torch.zeros_like(padded)
    for row, prompt in enumerate(ids):
        padded[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1

    def timed(new: int) -> float:
        settings = GenerationConfig(
            max_new_tokens=new, min_new_tokens=new, do_sample=False, pad_token_id=0
        )
        start = time.perf_counter()
        model.generate(padded, attention_mask=mask, generation_config=settings)
        return time.perf_counter() - start

    return timed(NEW) - timed(1)


def main() -> None:
    """Measure and print, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--store", type=Path, default=Path.home() / ".cache/prime-node/models")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    prepared = open_model(options.store, options.model)
    runner = StageRunner(load_slice(prepared, 0, prepared.manifest.layers), 16384)
    whole = AutoModelForCausalLM.from_pretrained(prepared.path, dtype="auto").eval()
    print(f"{options.threads} threads, {prepared.path.name}, decode tokens a second")
    print(f"{'batch':>6} {'lengths':>8} {'ours':>8} {'generate':>9} {'ratio':>6}")
    for batch in options.batch:
        for even in (True, False) if batch > 1 else (True,):
            ids = prompts(batch, prepared.manifest.vocab_size, even)
            ours, theirs = [], []
            for _ in range(options.repeat):
                ours.append(run_ours(runner, ids))
                theirs.append(run_generate(whole, ids))
            work = batch * (NEW - 1)
            a, b = work / statistics.median(ours), work / statistics.median(theirs)
            kind = "equal" if even else "ragged"
            print(f"{batch:>6} {kind:>8} {a:8.1f} {b:9.1f} {a / b:6.2f}", flush=True)


if __name__ == "__main__":
    main()
