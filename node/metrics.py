"""The node's Prometheus metrics: one registry per node, names `prime_node_*`, bounded labels.

A label that a peer could choose (a peer id, a path, an error text) would let it grow the registry
without end, so every label here takes values from a fixed set and anything else counts as "other".
There are no module-level metrics: two nodes in one process do not mix.
"""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import generate_latest

OTHER = "other"
GROUP_STATES = ("loading", "running", "repairing")
UNIT_STATES = (
    "queued",
    "assigned",
    "produced",
    "verifying",
    "accepted",
    "rejected",
    "expired",
    "settled",
)
OUTCOMES = ("ok", "refused", "timeout", "unreachable", "violation")
METHODS = (
    "ping",
    "invite",
    "load",
    "ring",
    "edge",
    "assign",
    "progress",
    "trouble",
    "claim",
    "countersign",
    "forget",
    "verify",
    "bundle",
    "verdict",
    "cosign",
    "convict",
    "fetch",
)
"""Names of `node.wire.methods`."""
ROUTES = (
    "/healthz",
    "/readyz",
    "/metrics",
    "/v1/status",
    "/v1/nodes",
    "/v1/groups",
    "/v1/work",
    "/v1/rejections",
    "/v1/jobs",
    "/v1/jobs/{job_id}",
    "/v1/jobs/{job_id}/dataset",
)
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)


def bounded(value: str, allowed: Iterable[str]) -> str:
    """`value` if it is one of `allowed`, else "other"."""
    return value if value in allowed else OTHER


class NodeMetrics:
    """All metrics of one node. Counters only rise; gauges are set to what is true now."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(namespace="prime_node", registry=registry)
        self.peers = Gauge("prime_node_peers", "Connected peers", registry=registry)
        self.known_nodes = Gauge(
            "prime_node_known_nodes", "Node records that are valid now", registry=registry
        )
        self._groups = Gauge("prime_node_groups", "Groups by state", ["state"], registry=registry)
        self._units = Counter(
            "prime_node_units_total",
            "Work units that entered a state",
            ["state"],
            registry=registry,
        )
        self.prompts = Counter("prime_node_prompts_total", "Prompts completed", registry=registry)
        self.tokens = Counter(
            "prime_node_tokens_total", "Output tokens of completed prompts", registry=registry
        )
        self.suspects = Gauge(
            "prime_node_suspects",
            "Workers whose figures drift, as this validator sees it",
            registry=registry,
        )
        self.engine_up = Gauge(
            "prime_node_engine_up", "1 while the engine process runs", registry=registry
        )
        self.engine_rss = Gauge(
            "prime_node_engine_rss_bytes", "Resident memory of the engine", registry=registry
        )
        self.engine_restarts = Counter(
            "prime_node_engine_restarts_total", "Engine restarts after a crash", registry=registry
        )
        self._requests = Counter(
            "prime_node_peer_requests_total",
            "Requests sent to peers",
            ["method", "outcome"],
            registry=registry,
        )
        self._request_seconds = Histogram(
            "prime_node_peer_request_seconds",
            "Time to a peer's answer",
            ["method"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._http = Counter(
            "prime_node_http_requests_total",
            "HTTP requests answered",
            ["route", "code"],
            registry=registry,
        )

    def set_groups(self, counts: dict[str, int]) -> None:
        """Replace the counts of groups by state (lower-case names)."""
        for state in GROUP_STATES:
            self._groups.labels(state).set(counts.get(state, 0))

    def unit(self, state: str) -> None:
        """A work unit entered `state` (lower-case name)."""
        self._units.labels(bounded(state, UNIT_STATES)).inc()

    def request(self, method: str, outcome: str, seconds: float) -> None:
        """A request to a peer ended; `method` like "ping", `outcome` one of `OUTCOMES`."""
        name = bounded(method, METHODS)
        self._requests.labels(name, bounded(outcome, OUTCOMES)).inc()
        self._request_seconds.labels(name).observe(seconds)

    def http(self, route: str, code: int) -> None:
        """An HTTP request was answered; `route` is the route's template."""
        shown = str(code) if 100 <= code < 600 else OTHER
        self._http.labels(bounded(route, ROUTES), shown).inc()

    def exposition(self) -> bytes:
        """The Prometheus text format (UTF-8), version 0.0.4."""
        return generate_latest(self.registry)
