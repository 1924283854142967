"""Generate under a condition, replay as a validator does, measure, and write it down.

A *job* is a way to generate. What needs no generation of its own is derived from a job's sequences
while their replay is at hand: another sequence's proofs, forged ones, a wrong seed, an edited
prompt or other sampling settings, an early or a late end of the honest job; proofs from a true
prefill of the int4 job.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from evaluation import attacks
from evaluation.records import Block, Journal, Record
from node.calibration.measuring import as_measure
from node.calibration.prompts import encode_prompt, prompt_texts
from pipeline.engine.messages import ReplaySequence, Sampling
from pipeline.engine.replay import measure
from pipeline.models.prepared import PreparedModel
from pipeline.models.tokenizer import ChatTokenizer
from pipeline.runner.distance import rows_error
from pipeline.runner.local_ring import Generated, LocalRing, Request, load_ring
from pipeline.runner.replay import Replayed, WholeModelReplay
from pipeline.runner.stage import StageRunner
from proofs.measures import ChunkMeasure, SamplingMeasure
from proofs.noise import noise_key
from proofs.sampling import TokenMeasure, choose_batch, measure_tokens, surprise
from proofs.toploc import build_row_proofs, measure_rows

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
    packed: bool = True  # False: other matrix kernels than the verifier's
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
        Job("honest-plain", packed=False),
        Job("mixed-10", ring="mixed"),
        Job("honest-batch-8", batch=8),
        Job("dropped-layers", fault="dropped-layers"),
    )
}
ASKED: dict[str, dict[str, float]] = {
    "temperature+0.1": {"temperature": -0.1},
    "temperature-0.1": {"temperature": +0.1},
    "top-p-higher": {"top_p": -0.05},
    "top-p-lower": {"top_p": +0.05},
}
"""What was asked for beside what the prover used, in conditions that share honest outputs."""


class Collector:
    """Measures blocks of prompts into a journal; loads a job's stages when they are first needed.

    Not thread-safe; keeps the stages of one job at a time, and the verifier's model.
    """

    def __init__(self, setup: Setup, journal: Journal) -> None:
        self._setup = setup
        self._journal = journal
        self._tokenizer = ChatTokenizer(setup.model.path)
        self._verifier = WholeModelReplay(setup.model)
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
        proofs = [_prove(one, request) for one, request in zip(generated, requests, strict=True)]
        generate_seconds = time.perf_counter() - started
        records: list[Record] = []
        verify_seconds = 0.0
        group = max(1, 2048 // (MAX_PROMPT + self._setup.tokens))
        for start in range(0, len(prompts), group):
            places = range(start, min(start + group, len(prompts)))
            started = time.perf_counter()
            replays = self._replay([requests[i].prompt_ids for i in places],
                                   [generated[i].output_ids for i in places])  # fmt: skip
            own = [
                self._record(job.name, prompts[i], requests[i], generated[i], proofs[i], replayed)
                for i, replayed in zip(places, replays, strict=True)
            ]
            verify_seconds += time.perf_counter() - started
            for i, record, replayed in zip(places, own, replays, strict=True):
                rows = zip(generated[i].stages, replayed.stages, strict=True)
                errors = tuple(rows_error(claimed, mine) for claimed, mine in rows)
                records.append(replace(record, errors=errors))
                other = (i + 1) % len(prompts)
                records += self._derived(
                    job, record, requests[i], generated[i], proofs[i], replayed,
                    generated[other], proofs[other],
                )  # fmt: skip
        tokens = sum(len(one.output_ids) for one in generated)
        block = Block(key, generate_seconds, verify_seconds, tokens, tuple(records))
        self._journal.append(block)
        return True

    def _request(self, number: int) -> Request:
        text = prompt_texts(1, number)[0]
        ids = encode_prompt(self._tokenizer, text, MAX_PROMPT)
        s = self._setup
        key = noise_key(BEACON, number.to_bytes(8, "big"), ids, 0)
        sampling = Sampling(temperature=s.temperature, top_k=s.top_k, top_p=s.top_p, noise_key=key)
        return Request(ids, sampling, s.tokens)

    def _ring_of(self, job: Job) -> LocalRing:
        if self._ring is not None and self._ring[0] == job:
            return self._ring[1]
        self._ring = None
        s = self._setup
        batch = job.batch or s.batch
        stages = self._load(job.fault, job.packed)
        ring: LocalRing
        if job.ring == "mixed":
            ring = attacks.MixedRing(stages, self._load("int4-weights"), 0.1, batch)
        else:
            if job.ring == "fp8-kv":
                attacks.quantise_cache(stages)
            ring = LocalRing(stages, batch, max_batch_tokens=512)
        self._ring = (job, ring)
        return ring

    def _load(self, fault: str, packed: bool = True) -> list[StageRunner]:
        s = self._setup
        kv_tokens = s.batch * (MAX_PROMPT + s.tokens)
        return load_ring(s.model, s.boundaries, kv_tokens, fault=fault, packed=packed)

    def _replay(
        self, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
    ) -> list[Replayed]:
        """Rows at all positions: everything after the first token counts as output."""
        pairs = [((p[0],), (*p[1:], *o)) for p, o in zip(prompts, outputs, strict=True)]
        return self._verifier.prefill(pairs, self._setup.boundaries)

    def _record(
        self,
        condition: str,
        number: int,
        request: Request,
        generated: Generated,
        proofs: Sequence[attacks.Proofs],
        replayed: Replayed,
        *,
        eos: bool = False,
    ) -> Record:
        """Measure proofs and output of a sequence whose replay holds rows at all positions."""
        prompt, output = request.prompt_ids, generated.output_ids
        used = slice(len(prompt) - 1, len(prompt) + len(output) - 1)
        assert isinstance(request.sampling, Sampling)
        claim = ReplaySequence(
            sequence_id=number.to_bytes(16, "big"),
            prompt_ids=prompt,
            output_ids=output,
            sampling=request.sampling,
            proofs=tuple(proofs),
        )
        measured = measure(claim, replace(replayed, stages=tuple(r[used] for r in replayed.stages)))
        return Record(
            condition=condition,
            prompt=number,
            prompt_tokens=len(prompt),
            measure=as_measure(measured),
            proof_bytes=sum(len(proof) for stage in proofs for proof in stage),
            eos=eos,
            output=output,
        )

    def _derived(
        self,
        job: Job,
        honest: Record,
        request: Request,
        generated: Generated,
        proofs: list[attacks.Proofs],
        replayed: Replayed,
        other: Generated,
        other_proofs: list[attacks.Proofs],
    ) -> Iterator[Record]:
        """Conditions that need no generation of their own; on the first prompts of the test half.

        `honest` is the record of what was generated.
        """
        number = honest.prompt
        if not (is_test(number) and number < self._setup.derived):
            return
        if job.name == "int4-weights":
            alone = self._replay([request.prompt_ids], [generated.output_ids])[0]
            true = replace(generated, stages=alone.stages)
            made = _prove(true, request)
            yield self._record("spoofed-prefill", number, request, generated, made, replayed)
        if job.name != "honest":
            return
        forged = {
            "replayed-proofs": other_proofs,
            "blind-constant": attacks.constant_proofs(proofs, _used(other, request)),
            "blind-random": attacks.random_proofs(proofs, number),
            "negated-rows": attacks.negated_proofs(_used(generated, request)),
            "malformed": attacks.malformed_proofs(proofs, number // 2),
        }
        for name, made in forged.items():
            yield self._forged(name, honest, made, replayed)
        yield from self._resampled(honest, request, replayed)
        rng = random.Random(number)
        ended = self._early_end(generated, rng)
        made = _prove(ended, request)
        yield self._record("early-eos", number, request, ended, made, replayed, eos=True)
        edited = list(request.prompt_ids)
        place = rng.randrange(max(1, len(edited) - 26), len(edited) - 6)
        edited[place] = rng.randrange(100, self._tokenizer.vocab_size)
        changed = self._replay([edited], [generated.output_ids])[0]
        asked = replace(request, prompt_ids=tuple(edited))
        yield self._record("prompt-edit", number, asked, generated, proofs, changed)

    def _resampled(self, honest: Record, request: Request, replayed: Replayed) -> Iterator[Record]:
        """The honest output where something else was asked for: another seed, temperature, top-p.
        And an end-of-sequence token that was drawn but passed over for the next best token."""
        count, first = len(honest.output), honest.prompt_tokens
        rows = tuple(stage[first - 1 : first - 1 + count] for stage in replayed.stages)
        logits = torch.cat(list(replace(replayed, stages=rows).logits())).numpy()
        used = request.sampling
        assert isinstance(used, Sampling)
        asked = {
            name: {key: round(getattr(used, key) + change, 6) for key, change in changes.items()}
            for name, changes in ASKED.items()
        }
        asked["wrong-seed"] = {"noise_key": used.noise_key ^ 1}
        for name, update in asked.items():
            measured = measure_tokens(logits, honest.output, used.model_copy(update=update), first)
            yield _with_sampling(name, honest, measured)
        ends = [at for at, token in enumerate(honest.output) if token in self._tokenizer.eos_ids]
        if ends:
            at = ends[0]
            row, position = logits[at], first + at
            masked = row.copy()
            masked[list(self._tokenizer.eos_ids)] = -np.inf
            next_best = choose_batch(masked[None], [used], [position])
            one = measure_tokens(row[None], next_best, used, position)
            sampling = honest.measure.sampling
            scores = (*sampling.scores[:at], one.scores[0], *sampling.scores[at + 1 :])
            late = sampling.model_copy(update={"matches": sampling.matches - 1, "scores": scores})
            measure = honest.measure.model_copy(update={"sampling": late})
            yield replace(honest, condition="late-eos", measure=measure, errors=())

    def _forged(
        self, condition: str, honest: Record, proofs: Sequence[attacks.Proofs], replayed: Replayed
    ) -> Record:
        """An honest output with other proofs."""
        count = honest.measure.sampling.tokens
        at = slice(honest.prompt_tokens - 1, honest.prompt_tokens - 1 + count)
        stages = tuple(
            tuple(
                ChunkMeasure(**asdict(result))
                for result in measure_rows(rows[at].to(torch.bfloat16), own)
            )
            for rows, own in zip(replayed.stages, proofs, strict=True)
        )
        return replace(
            honest,
            condition=condition,
            measure=honest.measure.model_copy(update={"stages": stages}),
            proof_bytes=sum(len(proof) for own in proofs for proof in own),
            errors=(),
        )

    def _early_end(self, generated: Generated, rng: random.Random) -> Generated:
        """Cut anywhere in the second half and end with a token that was not sampled."""
        output = generated.output_ids
        at = rng.randrange(len(output) // 2, len(output) - 1)
        prompt = len(generated.stages[0]) - len(output) + 1
        kept = tuple(rows[: prompt + at] for rows in generated.stages)
        return Generated(generated.index, (*output[:at], self._tokenizer.eos_ids[0]), kept)


def is_test(number: int) -> bool:
    """Odd prompts are for testing, even ones for calibration."""
    return number % 2 == 1


def _with_sampling(condition: str, honest: Record, measured: TokenMeasure) -> Record:
    sampling = SamplingMeasure(
        tokens=len(measured.scores),
        matches=measured.matches,
        scores=measured.scores,
        surprise=surprise(measured.excess, measured.variance),
    )
    measure = honest.measure.model_copy(update={"sampling": sampling})
    return replace(honest, condition=condition, measure=measure, errors=())


def _used(generated: Generated, request: Request) -> list[torch.Tensor]:
    """The rows that gave output tokens."""
    count = len(generated.output_ids)
    return [rows[-count:] for rows in generated.stages]


def _prove(generated: Generated, request: Request) -> list[attacks.Proofs]:
    """What each stage proves: the rows that gave output tokens."""
    return [tuple(build_row_proofs(rows.to(torch.bfloat16))) for rows in _used(generated, request)]
