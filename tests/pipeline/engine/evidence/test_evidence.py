"""Evidence of real rings: whatever passes an edge is signed for alike at both of its ends."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from pipeline.dishonest.stages import altered
from pipeline.engine.control.messages import Finished, SequenceIds, SequenceSpec, Submit
from pipeline.engine.evidence.collecting import UNSAMPLED, ReturnedTokens, token_bytes
from pipeline.models.prepared import PreparedModel
from proofs.evidence.statement import StageEvidence
from proofs.sampling.settings import SamplingSettings
from proofs.toploc import CHUNK_ROWS, build_chunk_proof, measure_rows
from tests.pipeline.engine.rings import LocalRing, load_requests, local_ring
from tests.pipeline.engine.sequences import make_spec

OUTPUTS = 40
PROMPTS = {n: tuple(range(5 + n, 12 + 5 * n)) for n in range(5)}
Evidence = list[dict[bytes, StageEvidence]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tiny_model: Callable[[str], PreparedModel]) -> PreparedModel:
    return tiny_model("llama")


def sid(number: int) -> bytes:
    return number.to_bytes(16, "big")


def specs(max_tokens: int = OUTPUTS) -> list[SequenceSpec]:
    return [
        make_spec(
            sid(number),
            prompt,
            sampling=SamplingSettings(temperature=0.9, noise_key=number),
            max_tokens=max_tokens,
        )
        for number, prompt in PROMPTS.items()
    ]


def packed(ids: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(ids)}I", *ids)


def digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def check_chain(evidence: Evidence, done: dict[bytes, Finished]) -> None:
    """Both ends of every edge agree, from the ids that stage 0 was fed to the seam."""
    for key, finished in done.items():
        chain = [each[key] for each in evidence]
        assert {each.rows for each in chain} == {len(finished.ids)}
        assert all(a.sent == b.received for a, b in pairwise(chain))
        assert chain[0].returned == chain[-1].sent
        assert all(each.returned == b"" for each in chain[1:])
        fed = [*PROMPTS[int.from_bytes(key, "big")], *finished.ids[:-1]]
        assert chain[0].received == digest(packed(fed))


@pytest.mark.parametrize(
    ("stages", "micro_batches", "batch_tokens"), [(1, 1, 512), (2, 3, 7), (3, 1, 64), (3, 4, 3)]
)
def test_evidence_chains_from_token_ids_to_the_seam(
    tmp_path: Path, model: PreparedModel, stages: int, micro_batches: int, batch_tokens: int
) -> None:
    with local_ring(stages, tmp_path) as ring:
        ring.load(model)
        assert ring.up(1, micro_batches, batch_tokens) == [None] * stages
        done = ring.run(specs())
        evidence = ring.evidence(done)
    check_chain(evidence, done)
    for key, finished in done.items():
        assert evidence[-1][key].sent == digest(packed(finished.ids))


def sampled_here(known: int, ids: Sequence[int]) -> bytes:
    """The digest of a token sum where `known` tokens were there before."""
    return digest(UNSAMPLED * known + packed(ids[known:]))


@pytest.mark.parametrize("batch_tokens", [5, 64])
def test_known_tokens_of_a_rebuilt_sequence_are_fillers(
    tmp_path: Path, model: PreparedModel, batch_tokens: int
) -> None:
    with local_ring(2, tmp_path) as ring:
        ring.load(model)
        assert ring.up(1, 2, batch_tokens) == [None] * 2
        first = ring.run(specs())
    again = specs()
    kept = dict(zip(first, (0, 1, 17, OUTPUTS - 1, OUTPUTS), strict=True))
    again = [
        spec.model_copy(update={"generated": first[spec.sequence_id].ids[: kept[spec.sequence_id]]})
        for spec in again
    ]
    (other := tmp_path / "other").mkdir()
    with local_ring(3, other) as ring:
        ring.load(model)
        assert ring.up(1, 3, batch_tokens) == [None] * 3
        done = ring.run(again)
        evidence = ring.evidence(done)
    check_chain(evidence, done)
    for key, finished in done.items():
        assert finished.ids == first[key].ids
        assert evidence[-1][key].sent == sampled_here(kept[key], finished.ids)


def test_a_ring_that_broke_midway_counts_from_the_rebuild(
    tmp_path: Path, model: PreparedModel
) -> None:
    with local_ring(3, tmp_path) as ring:
        ring.load(model)
        assert ring.up() == [None] * 3
        ring.services[0].submit(Submit(sequences=tuple(specs())))
        for _ in range(60):
            assert ring.events[0].get(timeout=60)[0] == "tokens"
        ring.services[1].load(load_requests(model, 3, 2048, {})[1])
        ring.wait_for(0, "edge_down")
        assert ring.up(generation=2) == [None] * 3
        done = ring.finished(len(PROMPTS))
        evidence = ring.evidence(done)
    check_chain(evidence, done)
    for key, finished in done.items():
        possible = [sampled_here(known, finished.ids) for known in range(1, OUTPUTS + 1)]
        assert evidence[-1][key].sent in possible


def kept_rows(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.rows")}


def run_keeping(ring: LocalRing, model: PreparedModel, folder: Path, budget: int) -> list[Path]:
    """Load all stages with a folder each and join them; returns the folders."""
    folders = [folder / f"rows{stage}" for stage in range(ring.stages)]
    ring.model = model
    for service, request, rows in zip(
        ring.services, load_requests(model, ring.stages, 2048, {}), folders, strict=True
    ):
        keeping = {"rows_dir": str(rows), "rows_bytes": budget}
        service.load(request.model_copy(update=keeping))
    assert ring.up(1, 3, 7) == [None] * ring.stages
    return folders


def test_received_rows_are_kept_and_nobody_can_have_them_dropped(
    tmp_path: Path, model: PreparedModel
) -> None:
    with local_ring(3, tmp_path) as ring:
        folders = run_keeping(ring, model, tmp_path, 1 << 30)
        endless = make_spec(sid(99), PROMPTS[0], max_tokens=400)
        ring.services[0].submit(Submit(sequences=(endless,)))
        ring.services[0].abort(SequenceIds(sequence_ids=(sid(99),)))
        done = ring.run(specs())
        evidence = ring.evidence(done)
        for service in ring.services:
            service.forget(SequenceIds(sequence_ids=tuple(done)))
    assert not folders[0].exists() or not kept_rows(folders[0])
    for stage in (1, 2):
        files = kept_rows(folders[stage])
        assert set(files) == {f"{item.received.hex()}.rows" for item in evidence[stage].values()}
        assert all(digest(data).hex() + ".rows" == name for name, data in files.items())
        sizes = [(len(PROMPTS[n]) + OUTPUTS - 1) * 48 * 4 for n in PROMPTS]
        assert sorted(map(len, files.values())) == sorted(sizes)


def test_a_folder_that_cannot_be_written_costs_no_token(
    tmp_path: Path, model: PreparedModel
) -> None:
    (tmp_path / "rows1").write_text("a file where the folder should be")
    with local_ring(2, tmp_path) as ring:
        run_keeping(ring, model, tmp_path, 1 << 30)
        done = ring.run(specs())
        check_chain(ring.evidence(done), done)


@pytest.mark.parametrize("fault", ["garbage-hidden"])
def test_what_is_altered_after_hashing_breaks_the_link(
    tmp_path: Path, model: PreparedModel, fault: str
) -> None:
    with local_ring(3, tmp_path) as ring:
        ring.load(model, faults={0: fault})
        assert ring.up() == [None] * 3
        done = ring.run(specs())
        evidence = ring.evidence(done)
    for key in done:
        assert evidence[0][key].sent != evidence[1][key].received
        assert evidence[1][key].sent == evidence[2][key].received


@pytest.mark.parametrize("fault", ["garbage-signed", "quiet-garbage"])
def test_garbage_that_is_signed_for_keeps_the_links(
    tmp_path: Path, model: PreparedModel, fault: str
) -> None:
    with local_ring(3, tmp_path) as ring:
        ring.load(model, faults={1: fault})
        assert ring.up() == [None] * 3
        done = ring.run(specs())
        check_chain(ring.evidence(done), done)


def test_quiet_garbage_is_out_of_a_proof_s_sight() -> None:
    rows = torch.randn(CHUNK_ROWS, 1024, generator=torch.Generator().manual_seed(1)).bfloat16()
    garbage = altered(rows, quiet=True)
    (result,) = measure_rows(garbage, [build_chunk_proof(rows)])
    assert (result.exp_mismatches, result.mant_err_mean, result.malformed) == (0, 0, "")
    assert float((garbage != rows).float().mean()) > 0.8


def test_both_ends_of_the_seam_sum_alike_however_rows_are_cut() -> None:
    """A prompt of 3 and 5 tokens, of which 2 were known, in every chunking of the prefill."""
    ids, last = [10, 11, 12, 20, 21, 22, 23], 24
    for cut in range(1, 5):
        returned, sent = ReturnedTokens(), b""
        spans = [(0, cut), (cut, 5), (5, 6), (6, 7)]
        for first, end in spans:
            proven = max(0, end - 2) - max(0, first - 2)
            drawn = {5: 22, 6: 23, 7: last}.get(end)
            returned.feed(memoryview(packed(ids[first:end])), proven, drawn is not None)
            sent += token_bytes(proven, drawn)
        assert sent == UNSAMPLED * 2 + packed([22, 23, last])
        assert returned.finish(last) == digest(sent)
