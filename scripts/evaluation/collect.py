"""Generate under a condition, replay as a validator does, measure, and write it down.

A *job* is a way to generate. What needs no generation of its own is derived from a job's sequences
while their replay is at hand (`evaluation.derive`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from evaluation import attacks
from evaluation.checking import Checker, check, prove
from evaluation.derive import Case, from_honest, spoofed_prefill
from evaluation.records import Block, Journal, Record
from node.calibration.prompts import encode_prompt, prompt_texts
from pipeline.dishonest.weights import apply_fault
from pipeline.models.prepared import PreparedModel
from pipeline.models.tokenizer import ChatTokenizer
from pipeline.runner.arithmetic import Kernels
from pipeline.runner.distance import rows_error
from pipeline.runner.local_ring import LocalRing, load_ring
from pipeline.runner.stage import StageRunner
from proofs.evidence.sequence import SequenceRequest
from proofs.sampling.noise import noise_key
from proofs.sampling.settings import SamplingSettings

MAX_PROMPT = 96
BEACON = b"evaluation beacon"


@dataclass(frozen=True)
class Setup:
    """What all conditions have in common. `temperature`, `top_k`, `top_p` are what is asked for."""

    model: PreparedModel
    boundaries: tuple[int, ...]
    tokens: int = 256
    batch: int = 64
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 0.95
    derived: int = 448  # conditions are derived from prompts below this one


@dataclass(frozen=True)
class Job:
    """How the prover generates; what it does not say is honest."""

    name: str
    fault: str = ""
    ring: str = ""  # "", "fp8-kv" or "mixed"
    kernels: Kernels = Kernels.BEST  # otherwise: other kernels than the verifier's
    batch: int = 0  # 0: the setup's


JOBS = {
    job.name: job
    for job in (
        Job("honest"),
        Job("int8-weights", fault="int8-weights"),
        Job("fp8-weights", fault="fp8-weights"),
        Job("int4-weights", fault="int4-weights"),
        Job("other-weights", fault="other-weights"),
        Job("dropped-layer", fault="dropped-layer"),
        Job("fp8-kv", ring="fp8-kv"),
        Job("honest-plain", kernels=Kernels.TRANSFORMERS),
        Job("mixed-10", ring="mixed"),
        Job("honest-batch-8", batch=8),
        Job("dropped-layers", fault="dropped-layers"),
    )
}


class Collector:
    """Measures blocks of prompts into a journal; loads a job's stages when they are first needed.

    Not thread-safe; keeps the stages of one job at a time, and the verifier's model.
    """

    def __init__(self, setup: Setup, journal: Journal) -> None:
        self._setup = setup
        self._journal = journal
        self._tokenizer = ChatTokenizer(setup.model)
        self._checker = Checker(setup.model, setup.boundaries)
        self._ring: tuple[Job, LocalRing] | None = None

    def collect(self, job: Job, prompts: Sequence[int]) -> bool:
        """Measure one block, unless the journal has it. Returns whether there was work."""
        key = f"{job.name}/{prompts[0]}-{prompts[-1]}-{len(prompts)}"
        if key in self._journal.done:
            return False
        requests = [self._request(number) for number in prompts]
        ring = self._ring_of(job)
        started = time.perf_counter()
        generated = sorted(ring.generate(requests), key=lambda one: one.index)
        proofs = [prove(one) for one in generated]
        generate_seconds = time.perf_counter() - started
        records: list[Record] = []
        verify_seconds = 0.0
        group = max(1, 2048 // (MAX_PROMPT + self._setup.tokens))
        for start in range(0, len(prompts), group):
            places = range(start, min(start + group, len(prompts)))
            started = time.perf_counter()
            replays = self._checker.replay(
                [requests[i].prompt_ids for i in places], [generated[i].output_ids for i in places]
            )
            own = [
                check(job.name, prompts[i], requests[i], generated[i], proofs[i], replayed)
                for i, replayed in zip(places, replays, strict=True)
            ]
            verify_seconds += time.perf_counter() - started
            for i, record, replayed in zip(places, own, replays, strict=True):
                rows = zip(generated[i].stages, replayed.stages, strict=True)
                errors = tuple(rows_error(claimed, mine) for claimed, mine in rows)
                records.append(replace(record, errors=errors))
                other = (i + 1) % len(prompts)
                case = Case(
                    record=record,
                    request=requests[i],
                    generated=generated[i],
                    proofs=proofs[i],
                    replayed=replayed,
                    other=generated[other],
                    other_proofs=proofs[other],
                )
                records += self._derived(job, case)
        tokens = sum(len(one.output_ids) for one in generated)
        block = Block(key, generate_seconds, verify_seconds, tokens, tuple(records))
        self._journal.append(block)
        return True

    def _request(self, number: int) -> SequenceRequest:
        text = prompt_texts(1, number)[0]
        ids = encode_prompt(self._tokenizer, text, MAX_PROMPT)
        s = self._setup
        key = noise_key(BEACON, number.to_bytes(8, "big"), ids, 0)
        sampling = SamplingSettings(
            temperature=s.temperature, top_k=s.top_k, top_p=s.top_p, noise_key=key
        )
        return SequenceRequest(
            sequence_id=number.to_bytes(16, "big"),
            prompt_ids=ids,
            sampling=sampling,
            max_tokens=s.tokens,
        )

    def _ring_of(self, job: Job) -> LocalRing:
        if self._ring is not None and self._ring[0] == job:
            return self._ring[1]
        self._ring = None
        s = self._setup
        batch = job.batch or s.batch
        stages = self._load(job.fault, job.kernels)
        ring: LocalRing
        if job.ring == "mixed":
            ring = attacks.MixedRing(stages, self._load("int4-weights"), 0.1, batch)
        else:
            if job.ring == "fp8-kv":
                attacks.quantise_cache(stages)
            ring = LocalRing(stages, batch, max_batch_tokens=512)
        self._ring = (job, ring)
        return ring

    def _load(self, fault: str, kernels: Kernels = Kernels.BEST) -> list[StageRunner]:
        s = self._setup
        kv_tokens = s.batch * (MAX_PROMPT + s.tokens)
        alter = partial(apply_fault, fault=fault) if fault else None
        return load_ring(s.model, s.boundaries, kv_tokens, alter=alter, kernels=kernels)

    def _derived(self, job: Job, case: Case) -> Iterator[Record]:
        """On the first prompts of the test half."""
        number = case.record.prompt
        if is_test(number) and number < self._setup.derived:
            if job.name == "int4-weights":
                yield spoofed_prefill(case, self._checker)
            if job.name == "honest":
                yield from from_honest(case, self._checker, self._tokenizer)


def is_test(number: int) -> bool:
    """Odd prompts are for testing, even ones for calibration."""
    return number % 2 == 1
