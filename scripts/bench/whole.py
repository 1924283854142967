"""The named alternative: transformers `generate` over the whole model, in a process of its own.

`start_whole` spawns the process; `ask` sends it prompts and a thread count and gives back seconds,
tokens and resident memory. It sleeps on its pipe in between, so it takes nothing from what is
measured meanwhile but memory.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection

import psutil


@dataclass(frozen=True)
class Answer:
    """`seconds` for all tokens, `first` for one token of each sequence (the prefill)."""

    seconds: float
    first: float
    outputs: tuple[tuple[int, ...], ...]
    rss: int

    @property
    def rate(self) -> float:
        """Tokens a second, prefill included."""
        return sum(map(len, self.outputs)) / self.seconds

    @property
    def decode_rate(self) -> float:
        """Tokens a second after the first one of each prompt."""
        return sum(len(output) - 1 for output in self.outputs) / (self.seconds - self.first)


def serve(pipe: Connection, folder: str) -> None:
    """Answer (prompts of one length, new tokens, threads) until the pipe sends None."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    pipe.send("ready")
    while question := pipe.recv():
        prompts, new, threads = question
        torch.set_num_threads(threads)
        ids = torch.tensor(prompts)
        seconds = {}
        for count in (1, new):
            settings = GenerationConfig(
                max_new_tokens=count, min_new_tokens=count, do_sample=False, pad_token_id=0
            )
            started = time.perf_counter()
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), generation_config=settings
            )
            seconds[count] = time.perf_counter() - started
        outputs = tuple(map(tuple, out[:, ids.shape[1] :].tolist()))
        pipe.send(Answer(seconds[new], seconds[1], outputs, psutil.Process().memory_info().rss))


@contextmanager
def start_whole(folder: str) -> Iterator[Connection]:
    """A pipe to a process that has the model loaded."""
    spawn = multiprocessing.get_context("spawn")
    here, there = spawn.Pipe()
    process = spawn.Process(target=serve, args=(there, folder), daemon=True)
    process.start()
    here.recv()
    try:
        yield here
    finally:
        here.send(None)
        process.join()


def ask(pipe: Connection, prompts: Sequence[Sequence[int]], new: int, threads: int) -> Answer:
    """Generate and wait."""
    pipe.send(([list(prompt) for prompt in prompts], new, threads))
    answer: Answer = pipe.recv()
    return answer
