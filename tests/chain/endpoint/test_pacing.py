"""An endpoint that refuses so many requests is left alone for as long as it asks."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from chain.endpoint.pacing import Pacing, PacingRules, retry_after
from chain.endpoint.provider import HttpProvider
from chain.endpoint.rpc import Rpc
from chain.errors import ChainUnreachable

WALL = 1_700_000_000.0
GOOD = httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": "0x2a"})


def limited(code: int, method_answer: int = 200) -> httpx.Response:
    error = {"code": code, "message": "too many requests"}
    return httpx.Response(method_answer, json={"jsonrpc": "2.0", "id": 1, "error": error})


class Endpoint:
    """Answers by the time; notes when it was asked."""

    def __init__(self, answer: Callable[[float], httpx.Response]) -> None:
        self._answer = answer
        self.asked: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        assert json.loads(request.content)["method"] == "eth_blockNumber"
        now = trio.current_time()
        self.asked.append(now)
        return self._answer(now)


def rpc(endpoint: Endpoint) -> Rpc:
    client = httpx.AsyncClient(transport=httpx.MockTransport(endpoint), timeout=None)
    return Rpc(HttpProvider(client, "http://chain.example", {}, deadline=15.0))


@pytest.mark.parametrize(
    "refusal",
    [
        httpx.Response(429, headers={"Retry-After": "7"}),
        httpx.Response(503, headers={"Retry-After": "7"}),
    ],
    ids=["429", "503"],
)
async def test_retry_after_is_waited_for(
    autojump_clock: MockClock, refusal: httpx.Response
) -> None:
    begun = trio.current_time()
    endpoint = Endpoint(lambda now: refusal if now < begun + 7 else GOOD)
    assert await rpc(endpoint).block_number() == 42
    assert [round(at - begun, 3) for at in endpoint.asked] == [0, 7]


async def test_what_lasts_longer_than_a_deadline_is_not_asked_meanwhile(
    autojump_clock: MockClock,
) -> None:
    begun = trio.current_time()
    refusal = httpx.Response(429, headers={"Retry-After": "120"})
    endpoint = Endpoint(lambda now: refusal if now < begun + 120 else GOOD)
    chain = rpc(endpoint)
    while trio.current_time() < begun + 104:
        with pytest.raises(ChainUnreachable, match=r"so many requests \(HTTP 429\); asked again"):
            await chain.block_number()
        assert "HTTP 429" in chain.trouble
        await trio.sleep(0.5)
    assert len(endpoint.asked) == 1
    await trio.sleep(2)
    assert await chain.block_number() == 42
    assert chain.trouble == ""


@pytest.mark.parametrize("refusal", [httpx.Response(429), limited(-32005), limited(429)])
async def test_an_endpoint_that_names_no_time_is_asked_ever_more_rarely(
    autojump_clock: MockClock, refusal: httpx.Response
) -> None:
    endpoint = Endpoint(lambda now: refusal)
    chain = rpc(endpoint)
    until = trio.current_time() + 900
    while trio.current_time() < until:
        with pytest.raises(ChainUnreachable):
            await chain.block_number()
        await trio.sleep(0.5)
    assert len(endpoint.asked) < 40  # full rate would be 1800
    gaps = [b - a for a, b in zip(endpoint.asked, endpoint.asked[1:], strict=False)]
    assert max(gaps) < 90  # and not forgotten either


@given(st.lists(st.tuples(st.integers(0, 100), st.none() | st.integers(0, 10**9), st.booleans())))
def test_a_pause_is_bounded_whatever_comes(steps: list[tuple[int, int | None, bool]]) -> None:
    rules, now = PacingRules(), 0.0
    pacing = Pacing(rules)
    for passed, told, refused in steps:
        now += passed
        if refused:
            pacing.refused(now, told)
            assert pacing.wait(now) >= min(told or 0.0, rules.longest_told)
            assert pacing.wait(now) >= rules.first
        else:
            pacing.answered(now)
        assert pacing.wait(now) <= rules.longest_told


def test_requests_refused_together_count_once() -> None:
    pacing = Pacing(PacingRules(first=1.0))
    for _ in range(8):
        pacing.refused(100.0, None)
    assert pacing.wait(100.0) == 1.0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0),
        ("soon", None),
        ("-1", None),
        ("", None),
        ("9" * 5000, 999_999_999.0),
    ],
)
def test_both_forms_of_retry_after(header: str, seconds: float | None) -> None:
    assert retry_after({"retry-after": header}, WALL) == seconds
