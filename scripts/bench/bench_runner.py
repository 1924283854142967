"""Decode speed of one StageRunner over the whole model beside transformers `generate`.

    python scripts/bench/bench_runner.py [--store DIR] [--model smollm2] [--threads 1 2]
        [--batch 1 4 16 64] [--repeat 3] [--cpu]

Our own kernels, oneDNN's, and `generate` run in this process, turn by turn, on prompts of about 64
tokens and 32 new tokens, greedy. Prints decode tokens a second over all sequences (medians of the
repeats, each contender with the number of threads that suits it best) and how many times as fast as
`generate` that is. `--cpu` takes this thread's CPU time instead of the wall's, for a machine that
has other things to do: with one thread only.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from pipeline.models.slice import load_slice
from pipeline.models.store import open_model
from pipeline.runner.arithmetic import Kernels
from pipeline.runner.stage import StageRunner, StepItem

NEW = 32
Clock = Callable[[], float]


def prompts(batch: int, vocab: int, even: bool) -> list[torch.Tensor]:
    """Random token ids, 64 each, or 48 to 80 as they come when `even` is false."""
    generator = torch.Generator().manual_seed(batch)
    lengths = [64 if even else 48 + (i * 7) % 33 for i in range(batch)]
    return [torch.randint(5, vocab, (n,), generator=generator) for n in lengths]


def run_ours(runner: StageRunner, ids: list[torch.Tensor], *, clock: Clock) -> float:
    """Seconds of decoding NEW - 1 tokens for each sequence, prefill excluded."""
    names = [bytes([i]) * 16 for i in range(len(ids))]
    tokens = []
    for name, prompt in zip(names, ids, strict=True):
        runner.open(name, len(prompt) + NEW)
        rows = runner.step([StepItem(name, 0, len(prompt))], prompt)
        tokens.append(runner.logits(rows[-1:]).argmax(-1))
    current = torch.cat(tokens)
    start = clock()
    for step in range(NEW - 1):
        items = [
            StepItem(name, len(prompt) + step, 1) for name, prompt in zip(names, ids, strict=True)
        ]
        current = runner.logits(runner.step(items, current)).argmax(-1)
    seconds = clock() - start
    for name in names:
        runner.close(name)
    return seconds


def run_generate(model: Any, ids: list[torch.Tensor], *, clock: Clock) -> float:
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
        start = clock()
        model.generate(padded, attention_mask=mask, generation_config=settings)
        return clock() - start

    return timed(NEW) - timed(1)


@dataclass
class Contender:
    """Something that decodes, and its seconds for each number of threads."""

    name: str
    run: Callable[[list[torch.Tensor]], float]
    seconds: dict[int, list[float]]

    def best(self) -> float:
        """The median with the number of threads that suits it best."""
        return min(statistics.median(found) for found in self.seconds.values())


def main() -> None:
    """Measure and print, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", 1)[0])
    parser.add_argument("--store", type=Path, default=Path.home() / ".cache/prime-node/models")
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--threads", type=int, nargs="+", default=[1])
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--cpu", action="store_true")
    options = parser.parse_args()
    prepared = open_model(options.store, options.model)
    clock = time.thread_time if options.cpu else time.perf_counter
    runners = {}
    for kernels in (Kernels.BEST, Kernels.ONEDNN):
        runner = StageRunner(
            load_slice(prepared, 0, prepared.manifest.layers), 8192, kernels=kernels
        )
        runners[runner.kernel_class] = runner
    whole = AutoModelForCausalLM.from_pretrained(prepared.path, dtype="auto").eval()
    print(f"{options.threads} threads, {prepared.path.name}, decode tokens a second")
    print(
        f"{'batch':>6} {'lengths':>8} " + " ".join(f"{name:>34}" for name in [*runners, "generate"])
    )
    headlines = []
    for batch in options.batch:
        for even in (True, False) if batch > 1 else (True,):
            ids = prompts(batch, prepared.manifest.vocab_size, even)
            contenders = [
                Contender(name, partial(run_ours, runner, clock=clock), defaultdict(list))
                for name, runner in runners.items()
            ]
            generate = Contender(
                "generate", partial(run_generate, whole, clock=clock), defaultdict(list)
            )
            for _ in range(options.repeat):
                for threads in options.threads:
                    torch.set_num_threads(threads)
                    for each in (*contenders, generate):
                        each.seconds[threads].append(each.run(ids))
            kind, reference = "equal" if even else "ragged", generate.best()
            figures = [
                f"{batch * (NEW - 1) / each.best():26.1f} x{reference / each.best():6.2f}"
                for each in (*contenders, generate)
            ]
            print(f"{batch:>6} {kind:>8} " + " ".join(figures), flush=True)
            headlines.append(f"{batch} {kind} x{reference / contenders[0].best():.2f}")
    print(f"summary: decoding against generate: {', '.join(headlines)}")


if __name__ == "__main__":
    main()
