"""Stage-to-stage connections of a ring: frames over mutual TLS 1.3, in threads, torch-free.

identity = Identity()
listener = Listener(identity, "0.0.0.0", 0, unix_path)
edge = listener.accept_from(upstream_fingerprint, check_hello, deadline)
edge = dial(identity, Endpoint(host, port), downstream_fingerprint, hello, deadline)
edge.send(header, payload, deadline); header, payload = edge.recv(deadline); edge.close()
"""

from pipeline.dataplane.dial import Endpoint, dial
from pipeline.dataplane.edge import Edge, EdgeStats
from pipeline.dataplane.errors import (
    EdgeBroken,
    EdgeClosed,
    EdgeError,
    EdgeMisuse,
    EdgeRefused,
    EdgeTimeout,
    EdgeViolation,
    ListenFailed,
)
from pipeline.dataplane.frames import EdgeLimits
from pipeline.dataplane.handshake import HelloCheck
from pipeline.dataplane.identity import Identity, fingerprint_of
from pipeline.dataplane.link import Timing
from pipeline.dataplane.listener import Listener
from pipeline.dataplane.recall import Recall
from pipeline.dataplane.ways import DialTiming

__all__ = [
    "DialTiming",
    "Edge",
    "EdgeBroken",
    "EdgeClosed",
    "EdgeError",
    "EdgeLimits",
    "EdgeMisuse",
    "EdgeRefused",
    "EdgeStats",
    "EdgeTimeout",
    "EdgeViolation",
    "Endpoint",
    "HelloCheck",
    "Identity",
    "ListenFailed",
    "Listener",
    "Recall",
    "Timing",
    "dial",
    "fingerprint_of",
]
