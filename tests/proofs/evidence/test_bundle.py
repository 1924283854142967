"""Bundles have one byte form, survive any bytes, and bind stages to what they signed."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from proofs.encoding.canonical import CanonicalError
from proofs.encoding.messagepack import MAX_CONTAINERS
from proofs.evidence.bundle import StageClaim, UnitBundle, check_claims
from proofs.evidence.ring_terms import ending_digest, terms_digest
from proofs.evidence.statement import evidence_commitment, input_digest, token_digest
from proofs.sampling.settings import SamplingSettings
from tests.proofs.units import (
    DOMAIN,
    bundle,
    changed,
    claim,
    evidence,
    sequence,
    stage_key,
    with_evidence,
)

UNIT = bundle()
DATA = UNIT.to_bytes()


def test_bundles_and_claims_round_trip() -> None:
    assert UnitBundle.from_bytes(DATA) == UNIT
    assert UnitBundle.from_bytes(DATA).content_id == UNIT.content_id
    for item in UNIT.stages:
        assert StageClaim.from_bytes(item.to_bytes()) == item


def test_the_content_id_depends_on_everything() -> None:
    other = UNIT.model_copy(update={"generation": 5})
    assert other.content_id != UNIT.content_id


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_changed_bytes_are_refused_or_another_bundle(data: st.DataObject) -> None:
    changed = bytearray(DATA)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(DATA) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(changed)[: data.draw(st.one_of(st.just(len(DATA)), st.integers(0, len(DATA))))]
    try:
        read = UnitBundle.from_bytes(raw)
    except CanonicalError:
        return
    assert (read == UNIT) == (raw == DATA)
    assert read.to_bytes() == raw


@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(CanonicalError):
        UnitBundle.from_bytes(raw)


def test_other_spellings_of_the_same_content_are_refused() -> None:
    plain = msgpack.unpackb(DATA, use_list=False)
    assert msgpack.packb(plain) == DATA
    reordered = msgpack.packb(dict(reversed(plain.items())))
    floats = msgpack.packb(plain | {"generation": 4.0})
    for other in (reordered, floats, DATA + b"\0"):
        with pytest.raises(CanonicalError):
            UnitBundle.from_bytes(other)


def test_size_and_nesting_are_bounded() -> None:
    for raw in (
        bytes(UnitBundle.MAX_BYTES + 1),
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        msgpack.packb([[]] * (MAX_CONTAINERS + 1)),
        b"\xd6\xff\0\0\0\0",
    ):
        with pytest.raises(CanonicalError):
            UnitBundle.from_bytes(raw)
    with pytest.raises(CanonicalError, match="at most"):
        UNIT.sequences[0].model_copy(update={"output_ids": (70_000,) * 40_000}).to_bytes()


def test_parts_that_do_not_fit_are_refused() -> None:
    fields = dict(UNIT)
    for change in (
        {"stages": UNIT.stages[:2]},
        {"boundaries": (10, 10, 20)},
        {"boundaries": (0, 10, 20)},
        {"sequences": UNIT.sequences * 2},
        {"sequences": ()},
        {"version": 1},
        {"unit_id": b"short"},
    ):
        with pytest.raises(ValidationError):
            UnitBundle.model_validate(fields | change)


@pytest.mark.parametrize("segments", [((1, 0),), ((0, 0), (70, 1)), ((0, 0), (9, 1), (8, 2))])
def test_segments_lie_in_order_inside_the_output(segments: tuple[tuple[int, int], ...]) -> None:
    assert sequence(1, segments=((0, 0), (9, 1), (9, 2))).segments[1] == (9, 1)
    with pytest.raises(ValidationError):
        sequence(1, segments=segments)


def test_a_sequence_owes_one_proof_for_32_tokens() -> None:
    assert [sequence(1, n).chunks for n in (1, 31, 32, 33, 64, 65)] == [1, 1, 1, 2, 2, 3]


def test_the_input_digest_covers_prompt_and_output_but_the_last_token() -> None:
    prompt, output = (5, 6, 7), tuple(range(10, 50))
    base = input_digest(prompt, output)
    assert input_digest((9, *prompt[1:]), output) != base
    assert input_digest(prompt, (999, *output[1:])) != base
    assert input_digest(prompt, (*output[:-1], 999)) == base


def test_token_digests_cover_what_was_sampled_and_where_it_began() -> None:
    output = tuple(range(10, 50))
    assert token_digest((999, *output[1:]), 1) == token_digest(output, 1)
    variants = [token_digest(output, start) for start in (0, 1, 39, 40)]
    variants.append(token_digest((*output[:-1], 999), 39))
    assert len(set(variants)) == len(variants)
    assert token_digest(output, 41) == token_digest(output, 40)


def test_terms_differ_with_every_value() -> None:
    base = (bytes(32), 3, 0.7, 50, 0.9, 11)
    others = (b"m" * 32, 4, 0.8, 51, 0.8, 12)

    def digest(ring: bytes, prompt: int, *values: Any) -> bytes:
        named = zip(("temperature", "top_k", "top_p", "noise_key"), values, strict=True)
        told = SamplingSettings.model_validate(dict(named))
        return terms_digest(ring, prompt, told, ending_digest(sequence(1).request))

    variants = [base] + [(*base[:n], others[n], *base[n + 1 :]) for n in range(len(base))]
    assert len({digest(*variant) for variant in variants}) == len(variants)


def test_terms_differ_with_everything_that_ends_an_output() -> None:
    changes: list[dict[str, Any]] = [
        {}, {"max_tokens": 71}, {"eos_ids": ()}, {"eos_ids": (2, 3)}, {"eos_ids": (3, 2)},
        {"stop": ("ab",)}, {"stop": ("a", "b")}, {"stop": ("b", "a")}, {"stop": ("ü",)},
    ]  # fmt: skip
    digests = {ending_digest(sequence(1, **change).request) for change in changes}
    assert len(digests) == len(changes)
    sampling = SamplingSettings()
    assert len({terms_digest(bytes(32), 3, sampling, ending) for ending in digests}) == len(digests)


def test_commitments_bind_every_part_of_the_evidence() -> None:
    items = evidence(0, UNIT.sequences)
    changes = [
        {"rows": 1}, {"proofs": ()}, {"sent": bytes(32)}, {"received": bytes(32)},
        {"sequence_id": bytes(16)}, {"terms": bytes(32)}, {"returned": b""}, {"sampled_from": 1},
    ]  # fmt: skip
    variants = [items, items[:1], items[::-1], (), (items[0], items[0])]
    variants += [(items[0].model_copy(update=change), items[1]) for change in changes]
    assert len({evidence_commitment(variant) for variant in variants}) == len(variants)


def test_noise_keys_follow_from_their_source() -> None:
    good = sequence(1)
    assert good.noise is not None
    assert good.noise_fault() == ""
    for change in ({"block": 8}, {}):  # the block only says where the beacon is from
        assert (
            good.model_copy(update={"noise": good.noise.model_copy(update=change)}).noise_fault()
            == ""
        )
    for change in ({"beacon": b"x"}, {"request_id": b"x"}, {"sample_index": 1}):
        source = good.noise.model_copy(update=change)
        assert "beacon" in good.model_copy(update={"noise": source}).noise_fault()
    assert "unknown" in good.model_copy(update={"noise": None}).noise_fault()
    assert "nothing" in changed(good, prompt_ids=(2**32,)).noise_fault()
    greedy = changed(good, noise=None, sampling=SamplingSettings())
    assert greedy.noise_fault() == ""


def test_honest_claims_are_bound() -> None:
    assert check_claims(UNIT, DOMAIN) == ""
    assert check_claims(bundle(stages=1), DOMAIN) == ""


def spoil(stage: int, **changes: object) -> UnitBundle:
    claims = list(UNIT.stages)
    claims[stage] = claims[stage].model_copy(update=changes)
    return UNIT.model_copy(update={"stages": tuple(claims)})


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_unbound_claims_are_named(stage: int) -> None:
    own = UNIT.stages[stage]
    assert own.receipt is not None
    stranger = own.receipt.sign(stage_key(9), DOMAIN)
    items = own.evidence

    def other(**changes: object) -> dict[str, object]:
        """A truly signed claim for something else."""
        fields = {"units": UNIT.work(stage)} | changes
        return dict(claim(stage, 3, items, **fields))

    unsigned = own.receipt.model_copy(update={"epoch": 9})
    for changes, reason in (
        ({"receipt": None}, "no signed receipt"),
        ({"receipt_signature": None}, "no signed receipt"),
        ({"evidence": items[:1]}, "is not for this unit"),
        ({"receipt_signature": stranger}, "is not signed by"),
        ({"counter_signature": stranger}, "is not countersigned"),
        ({"counter_signature": None}, "is not countersigned"),
        ({"receipt": unsigned}, "is not signed by"),
        (other(job_id=bytes(32)), "is not for this unit"),
        (other(stage=7), "is not for this unit"),
        (other(seq=1), "is not for this unit"),
        (other(counterparty=own.address), "is not for this unit"),
        (other(units=10**9), "claims 1000000000 units of work"),
    ):
        found = check_claims(spoil(stage, **changes), DOMAIN)
        assert f"stage {stage}" in found
        assert reason in found


def test_receipts_of_two_pools_are_not_one_unit() -> None:
    claims = [
        claim(s, 3, UNIT.stages[s].evidence, units=UNIT.work(s), pool_id=s // 2) for s in range(3)
    ]
    unit = UNIT.model_copy(update={"stages": tuple(claims)})
    assert "stage 2 is for another pool" in check_claims(unit, DOMAIN)


def test_work_is_layers_times_tokens() -> None:
    unit = UNIT.model_copy(update={"boundaries": (4, 5, 30)})
    tokens = (3 + 70) + (3 + 20)
    assert [unit.work(stage) for stage in range(3)] == [4 * tokens, tokens, 25 * tokens]


def test_a_draw_rests_on_the_unit_and_what_stages_committed_to_alone() -> None:
    """Who may write something of a bundle anew, as often as it likes, draws no other sequences."""
    first = UNIT.stages[0]
    assert first.receipt is not None
    assert first.receipt_signature is not None
    again = bytes(65)  # any signer can make another signature of the same receipt
    others = [
        first.model_copy(update={"receipt_signature": again}),
        first.model_copy(update={"counter_signature": again}),
        first.model_copy(update={"receipt": first.receipt.model_copy(update={"epoch": 9})}),
    ]
    same = [UNIT.model_copy(update={"stages": (one, *UNIT.stages[1:])}) for one in others]
    same += [UNIT.model_copy(update={"committed_at": 7, "group_id": bytes(32)})]
    assert {one.draw_id for one in same} == {UNIT.draw_id}
    assert len({one.content_id for one in (UNIT, *same)}) == len(same) + 1
    (item, *rest) = evidence(0, UNIT.sequences)
    told = (item.model_copy(update={"proofs": item.proofs[:1]}), *rest)
    assert with_evidence(UNIT, 0, told).draw_id != UNIT.draw_id
    assert UNIT.model_copy(update={"unit_id": bytes(32)}).draw_id != UNIT.draw_id
