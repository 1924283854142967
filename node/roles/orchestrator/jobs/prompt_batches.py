"""Prompts as they come over HTTP: lines of JSON, checked and gathered into batches."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence

import trio

from node.prompts import Prompt, PromptsError, parse_prompt

RAISE_LIMIT = "have the pool's owner raise orchestrator.max_prompts_per_job"
BATCH = 512
BATCH_BYTES = 4 * 2**20
"""Prompts of a batch, and bytes of their lines, after which no further unit is begun."""


async def prompt_batches(
    lines: AsyncIterable[bytes], unit_size: int, most: int
) -> AsyncIterator[Sequence[Prompt]]:
    """Batches of whole units, as many as fit; empty lines are skipped. Raises `PromptsError`
    naming the first line that is none, and for more than `most` prompts."""
    batch: list[tuple[int, bytes]] = []
    number, count, size = 0, 0, 0
    async for line in lines:
        number += 1
        if not line.strip():
            continue
        count += 1
        if count > most:
            message = f"line {number}: more than {most} prompts"
            raise PromptsError(message, f"split the file, or {RAISE_LIMIT}")
        batch.append((number, line))
        size += len(line)
        full = len(batch) + unit_size > BATCH or size > BATCH_BYTES
        if full and len(batch) % unit_size == 0:
            yield await trio.to_thread.run_sync(_parsed, batch)
            batch, size = [], 0
    if batch:
        yield await trio.to_thread.run_sync(_parsed, batch)


def _parsed(batch: Sequence[tuple[int, bytes]]) -> list[Prompt]:
    prompts = []
    for number, line in batch:
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as exc:
            raise PromptsError(f"line {number}: not UTF-8 text") from exc
        prompts.append(parse_prompt(text, f"line {number}"))
    return prompts
