"""The metrics endpoint, and that nobody outside can grow it."""

from __future__ import annotations

import httpx
from prometheus_client.parser import text_string_to_metric_families

from node.metrics import METHODS, NodeMetrics
from node.wire import methods
from node.wire.methods import Method


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_what_is_counted_is_served(client: httpx.AsyncClient, metrics: NodeMetrics) -> None:
    metrics.unit("accepted")
    metrics.unit("accepted")
    metrics.set_groups({"running": 2})
    metrics.set_groups({"repairing": 1})
    metrics.request("ping", "ok", 0.02)
    metrics.tokens.inc(40)
    await client.get("/v1/nodes")
    await client.get("/v1/jobs/some-id")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    seen = samples(answer.text)
    assert seen["prime_node_units_total", (("state", "accepted"),)] == 2
    assert seen["prime_node_groups", (("state", "running"),)] == 0
    assert seen["prime_node_groups", (("state", "repairing"),)] == 1
    assert seen["prime_node_tokens_total", ()] == 40
    counted = "prime_node_peer_requests_total"
    assert seen[counted, (("method", "ping"), ("outcome", "ok"))] == 1
    http = "prime_node_http_requests_total"
    assert seen[http, (("code", "200"), ("route", "/v1/nodes"))] == 1
    assert seen[http, (("code", "401"), ("route", "/v1/jobs/{job_id}"))] == 1
    assert all(name.startswith("prime_node_") for name, _ in seen)


async def test_labels_are_bounded(client: httpx.AsyncClient, metrics: NodeMetrics) -> None:
    for n in range(50):
        await client.get(f"/made-up-{n}")
        await client.get("/healthz", headers={"Host": f"evil-{n}.example"})
        metrics.request(f"method-{n}", f"outcome-{n}", 1.0)
        metrics.unit(f"state-{n}")
    seen = samples((await client.get("/metrics")).text)
    assert len([key for key in seen if key[0] == "prime_node_http_requests_total"]) == 2
    assert seen["prime_node_units_total", (("state", "other"),)] == 50
    assert seen["prime_node_peer_requests_total", (("method", "other"), ("outcome", "other"))] == 50


def test_nodes_in_one_process_do_not_mix() -> None:
    first, second = NodeMetrics(), NodeMetrics()
    first.tokens.inc(5)
    assert b"prime_node_tokens_total 5.0" in first.exposition()
    assert b"prime_node_tokens_total 0.0" in second.exposition()


def test_every_method_has_its_label() -> None:
    table = {value.name for value in vars(methods).values() if isinstance(value, Method)}
    assert set(METHODS) == table
