"""Rings of real stages and real edges within this process: rebuilding, refusing, giving up."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from pipeline.dataplane import Edge, EdgeClosed, Endpoint, Identity, dial
from pipeline.engine.control.messages import (
    Empty,
    Finished,
    Load,
    SequenceIds,
    SequenceSpec,
    Submit,
)
from pipeline.engine.errors import EngineError
from pipeline.engine.ring.frames import Hello, encode_legs, encode_step, encode_tokens
from pipeline.engine.schedule.batch import Batch, Item, Open
from pipeline.engine.schedule.pace import Leg
from pipeline.models.prepared import PreparedModel
from proofs.sampling.settings import SamplingSettings
from tests.pipeline.engine.rings import (
    GROUP,
    LocalRing,
    endpoint,
    load_requests,
    local_ring,
    ring_requests,
)
from tests.pipeline.engine.sequences import make_spec

PROMPTS = {n: tuple(range(5 + n, 12 + 3 * n)) for n in range(5)}


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


def spec(
    number: int,
    max_tokens: int = 40,
    prompt_ids: tuple[int, ...] | None = None,
    generated: tuple[int, ...] = (),
) -> SequenceSpec:
    return make_spec(
        sid(number),
        PROMPTS[number] if prompt_ids is None else prompt_ids,
        generated=generated,
        sampling=SamplingSettings(temperature=0.9, top_p=0.9, noise_key=number),
        max_tokens=max_tokens,
    )


def specs() -> list[SequenceSpec]:
    return [spec(number) for number in PROMPTS]


@pytest.fixture(scope="module")
def expected(
    model: PreparedModel, tmp_path_factory: pytest.TempPathFactory
) -> dict[bytes, Finished]:
    """What one stage alone gives, one sequence at a time."""
    torch.set_num_threads(1)
    done: dict[bytes, Finished] = {}
    with local_ring(1, tmp_path_factory.mktemp("alone")) as ring:
        ring.load(model)
        assert ring.up() == [None]
        for each in specs():
            done |= ring.run([each])
    return done


def ids(done: dict[bytes, Finished]) -> dict[bytes, tuple[int, ...]]:
    return {key: finished.ids for key, finished in done.items()}


def test_a_ring_gives_what_one_stage_gives_and_frees_its_cache(
    tmp_path: Path, model: PreparedModel, expected: dict[bytes, Finished]
) -> None:
    with local_ring(3, tmp_path) as ring:
        ring.load(model)
        assert ring.up() == [None] * 3
        done = ring.run(specs())
        assert ids(done) == ids(expected)
        for each in ring.evidence(done):
            assert {len(item.proofs) for item in each.values()} == {2}
        used = [service.status(Empty()).kv_tokens_used for service in ring.services]
        assert used == [0, 0, 0]


def test_sequences_share_less_memory_than_they_may_need(
    tmp_path: Path, model: PreparedModel
) -> None:
    """Three that grow from 256 to 260 positions in a cache of 775: the youngest gives way, once all
    are at it, and comes back."""
    asked = [spec(n, 20, tuple(range(5 + n, 245 + n))) for n in range(3)]
    outputs = []
    with local_ring(2, tmp_path) as ring:
        for generation, kv_tokens in ((1, 2048), (2, 775)):
            ring.load(model, kv_tokens=kv_tokens)
            assert ring.up(generation) == [None] * 2
            done = ring.run(asked)
            outputs.append(ids(done))
            for each in ring.evidence(done):
                assert {item.rows for item in each.values()} == {20}
            assert [s.status(Empty()).kv_tokens_used for s in ring.services] == [0, 0]
    assert outputs[0] == outputs[1]


def test_a_rebuilt_ring_goes_on_and_proves_the_whole_output(
    tmp_path: Path, model: PreparedModel, expected: dict[bytes, Finished]
) -> None:
    with local_ring(3, tmp_path) as ring:
        ring.load(model)
        assert ring.up() == [None] * 3
        ring.services[0].submit(Submit(sequences=tuple(specs())))
        for _ in range(60):
            assert ring.events[0].get(timeout=60)[0] == "tokens"
        ring.services[1].load(load_requests(model, 3, 2048, {})[1])  # its ring ends, it loads anew
        down = ring.wait_for(0, "edge_down")
        assert (down.group_id, down.generation) == (GROUP, 1)
        assert ring.up(generation=2) == [None] * 3
        done = ring.finished(len(PROMPTS))
        assert ids(done) == ids(expected)
        for each in ring.evidence(done):
            assert {item.rows for item in each.values()} == {40}


def test_another_ring_takes_over_what_was_generated(
    tmp_path: Path, model: PreparedModel, expected: dict[bytes, Finished]
) -> None:
    half = {key: finished.ids[:17] for key, finished in expected.items()}
    with local_ring(2, tmp_path) as ring:
        ring.load(model)
        assert ring.up() == [None] * 2
        done = ring.run(spec(n, generated=half[sid(n)]) for n in (0, 1))
        done |= ring.run([spec(2, generated=expected[sid(2)].ids)])
        assert ids(done) == {sid(n): expected[sid(n)].ids for n in (0, 1, 2)}
        assert {item.rows for each in ring.evidence(done) for item in each.values()} == {40}


def test_a_load_forgets_sequences_and_evidence(tmp_path: Path, model: PreparedModel) -> None:
    with local_ring(1, tmp_path) as ring:
        ring.load(model)
        assert ring.up() == [None]
        ring.run([spec(0, max_tokens=3)])
        ring.load(model)
        with pytest.raises(EngineError, match="unknown_sequence"):
            ring.services[0].evidence(SequenceIds(sequence_ids=(sid(0),)))
        assert ring.up(generation=2) == [None]
        assert set(ring.run([spec(0, max_tokens=3)])) == {sid(0)}


def test_an_aborted_sequence_frees_its_cache_and_proves_nothing(
    tmp_path: Path, model: PreparedModel
) -> None:
    with local_ring(2, tmp_path) as ring:
        ring.load(model)
        assert ring.up() == [None] * 2
        ring.services[0].submit(Submit(sequences=(spec(0, max_tokens=400), spec(1))))
        ring.services[0].abort(SequenceIds(sequence_ids=(sid(0),)))
        assert set(ring.finished(1)) == {sid(1)}
        for service in ring.services:
            assert service.status(Empty()).kv_tokens_used == 0
            with pytest.raises(EngineError, match="unknown_sequence"):
                service.evidence(SequenceIds(sequence_ids=(sid(0),)))
        ring.services[1].forget(SequenceIds(sequence_ids=(sid(1),)))
        with pytest.raises(EngineError, match="unknown_sequence"):
            ring.services[1].evidence(SequenceIds(sequence_ids=(sid(1),)))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (spec(0, max_tokens=2000), "exceed the model's context of 512"),
        (spec(0, prompt_ids=(1, 300)), "not below 300"),
        (spec(0, max_tokens=1, generated=(1, 2)), "more tokens were generated"),
    ],
)
def test_sequences_that_cannot_be_served_are_refused(
    tmp_path: Path, model: PreparedModel, wrong: SequenceSpec, reason: str
) -> None:
    with local_ring(1, tmp_path) as ring:
        ring.load(model, kv_tokens=64)
        with pytest.raises(EngineError, match=reason):
            ring.services[0].submit(Submit(sequences=(wrong,)))
        ring.services[0].submit(Submit(sequences=(spec(0, max_tokens=60),)))
        assert ring.up() == [None]
        failed = ring.wait_for(0, "failed")
        assert failed.sequence_ids == (sid(0),)
        assert "64 positions" in failed.reason


def load_with(model: PreparedModel, **changes: object) -> Load:
    return load_requests(model, 1, 64, {})[0].model_copy(update=changes)


@pytest.mark.parametrize(
    ("changes", "code", "reason"),
    [
        ({"model_id": bytes(32)}, "model", "asked for 000000000000"),
        ({"model_dir": "/nowhere"}, "model", "/nowhere"),
        ({"last_layer": 7}, "bad_request", "layers 0 to 6"),
        ({"first_layer": 6}, "bad_request", "layers 0 to 6"),
        ({"device": "cuda:99"}, "bad_request", "cannot be used"),
        ({"device": "warp"}, "bad_request", "cannot be used"),
        ({"fault": "laziness"}, "bad_request", "unknown fault"),
        ({"memory_cap": 1000}, "out_of_memory", "take fewer layers"),
    ],
)
def test_loads_that_cannot_work(
    tmp_path: Path, model: PreparedModel, changes: dict[str, object], code: str, reason: str
) -> None:
    with local_ring(1, tmp_path) as ring:
        with pytest.raises(EngineError, match=reason) as caught:
            ring.services[0].load(load_with(model, **changes))
        assert caught.value.code == code


def test_rings_that_cannot_work(tmp_path: Path, model: PreparedModel) -> None:
    with local_ring(2, tmp_path) as ring:
        requests = ring_requests(ring.listening, model, 1, 1, 64)
        with pytest.raises(EngineError, match="not_loaded"):
            ring.services[0].ring(requests[0])
        ring.load(model)
        with pytest.raises(EngineError, match="cannot be stage 1 of 2"):
            ring.services[0].ring(requests[1])
        with pytest.raises(EngineError, match="needs both neighbours"):
            ring.services[0].ring(requests[0].model_copy(update={"downstream": ()}))


def test_a_newer_ring_request_gets_rid_of_one_that_waits(
    tmp_path: Path, model: PreparedModel
) -> None:
    with local_ring(3, tmp_path) as ring:
        ring.load(model)
        requests = ring_requests(ring.listening, model, 1, 1, 64)
        errors: list[EngineError] = []
        listener, downstream = (service._port._listener for service in ring.services[:2])
        assert listener is not None
        assert downstream is not None

        def join_alone() -> None:
            try:
                ring.services[0].ring(requests[0])
            except EngineError as exc:
                errors.append(exc)

        waiting = threading.Thread(target=join_alone)
        waiting.start()  # its neighbours never join generation 1
        with listener._changed:
            assert listener._changed.wait_for(lambda: listener._waiting, 60)
        with downstream._changed:  # its own call has arrived there, and nobody takes it
            assert downstream._changed.wait_for(lambda: downstream._parked, 60)
        assert ring.up(generation=2) == [None] * 3
        waiting.join(60)
        assert [error.code for error in errors] == ["edge"]
        assert "nobody wants this edge any more" in errors[0].message
        assert len(ring.run(specs())) == len(PROMPTS)


def test_an_edge_that_does_not_come_up_is_named(tmp_path: Path, model: PreparedModel) -> None:
    """Somebody else answers where the downstream stage should be, and there is no other way."""
    with local_ring(2, tmp_path) as ring, socket.create_server(("127.0.0.1", 0)) as other:
        ring.load(model)
        request = ring_requests(ring.listening, model, 1, 1, 64)[0]
        (way,) = request.downstream
        elsewhere = way.model_copy(update={"port": other.getsockname()[1]})

        def answer() -> None:
            sock, _ = other.accept()
            with sock:
                sock.recv(1 << 16)  # closing on unread bytes would reset the connection instead
                sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                sock.settimeout(60)
                with suppress(ConnectionError):
                    while sock.recv(1 << 16):
                        pass

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(EngineError, match="TLS handshake failed") as caught:
            ring.services[0].ring(request.model_copy(update={"downstream": (elsewhere,)}))
        assert caught.value.code == "downstream"
        answering.join(60)
        several = (way, way.model_copy(update={"fingerprint": bytes(32)}))
        with pytest.raises(EngineError, match="one certificate"):
            ring.services[0].ring(request.model_copy(update={"downstream": several}))


class Impostor:
    """Plays stage 0 of two towards a real stage 1 (`services[1]`), byte by byte."""

    def __init__(self, ring: LocalRing, model: PreparedModel) -> None:
        identity = Identity()
        listener_side = ring.services[0]._port._listener
        assert listener_side is not None
        self.hello = Hello(GROUP, 1, 0, 2, model.model_id, 3, "torch.float32")
        request = ring_requests(ring.listening, model, 1, 1, 64)[1].model_copy(
            update={"upstream_certificate": identity.certificate}
        )
        joining = threading.Thread(target=ring.services[1].ring, args=(request,))
        joining.start()
        until = time.monotonic() + 60
        there = endpoint(ring.listening[1])
        self.to: Edge = dial(
            identity,
            Endpoint(there.host, there.port),
            there.fingerprint,
            self.hello.encode(),
            until,
        )
        self.back: Edge = listener_side.accept_from(
            ring.listening[1].fingerprint, lambda _: b"", until
        )
        joining.join(60)

    def close(self) -> None:
        self.to.close()
        self.back.close()


ROW = 48 * 4
LEG = encode_legs([Leg(0.0, 0.01)])
START = Batch(0, (Item(sid(0), 0, 2, True),), (Open(sid(0), 2, 8, SamplingSettings(), bytes(32)),))
HOSTILE: dict[str, tuple[bytes, bytes]] = {
    "not MessagePack": (b"\xc1" + LEG, b""),
    "shorter than what": (b"\xc1", b""),
    "generation 2": (encode_step(2, START) + LEG, bytes(2 * ROW)),
    "2 rows take": (encode_step(1, START) + LEG, bytes(ROW)),
    "payload of 577 bytes": (encode_step(1, START) + LEG, bytes(3 * ROW + 1)),
    "step 3 came": (encode_step(1, Batch(3)) + LEG, b""),
    "not open": (encode_step(1, Batch(0, START.items)) + LEG, bytes(2 * ROW)),
    "positions exceed": (
        encode_step(1, Batch(0, opens=(Open(sid(0), 2, 10**6, SamplingSettings(), bytes(32)),)))
        + LEG,
        b"",
    ),
    "not finite": (encode_step(1, START) + LEG, b"\xff" * (2 * ROW)),
}


@pytest.mark.parametrize("reason", HOSTILE)
def test_a_hostile_upstream_stage_ends_the_ring_with_a_reason(
    tmp_path: Path, model: PreparedModel, reason: str
) -> None:
    header, payload = HOSTILE[reason]
    with local_ring(2, tmp_path) as ring:
        ring.load(model)
        impostor = Impostor(ring, model)
        try:
            impostor.to.send(header, memoryview(payload))
            down = ring.wait_for(1, "edge_down")
            assert down.edge == "upstream"
            assert reason in down.reason
            with pytest.raises(EdgeClosed):
                impostor.back.recv(time.monotonic() + 60)
        finally:
            impostor.close()
        assert ring.services[1].status(Empty()).running == 0


def test_a_frame_against_the_ring_s_direction_ends_it(tmp_path: Path, model: PreparedModel) -> None:
    with local_ring(2, tmp_path) as ring:
        ring.load(model)
        impostor = Impostor(ring, model)
        try:
            impostor.to.send(encode_step(1, START) + LEG, memoryview(bytes(2 * ROW)))
            assert impostor.back.recv(time.monotonic() + 60)[0]
            with pytest.raises(Exception, match="the peer accepts"):
                impostor.back.send(encode_tokens(1, 0, (1,)))
        finally:
            impostor.close()
        assert ring.wait_for(1, "edge_down").generation == 1
