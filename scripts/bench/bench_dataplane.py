"""Round trips and throughput of a data-plane edge beside plain TCP, in the same run.

    python scripts/bench/bench_dataplane.py [--rounds 5] [--seconds 1.0]

A second process echoes (round trip) or swallows (throughput, acknowledged at the end). For every
transport: p50 of a 4 KB round trip and MB/s of 1 MB messages one way, medians over rounds that
alternate between transports, so that a busy machine hurts all alike. "plain TCP" is a blocking
loopback socket with TCP_NODELAY and length prefixes, no TLS, no credit.
"""

from __future__ import annotations

import argparse
import multiprocessing
import socket
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path

from pipeline.dataplane import Edge, EdgeClosed, Endpoint, Identity, Listener, dial

SMALL = 4096
LARGE = 1 << 20
LENGTH = struct.Struct(">I")
Exchange = Callable[[memoryview, bool], None]
"""Send a message and, if asked, wait for its echo."""


def echo_edge(edge: Edge) -> None:
    """Answer messages whose header says so."""
    try:
        while True:
            header, payload = edge.recv()
            if header == b"echo":
                edge.send(header, payload)
    except EdgeClosed:
        edge.close()


def serve_edges(pipe: Connection, fingerprint: bytes, folder: str) -> None:
    """Echo over two edges of the data plane, until the pipe says to stop."""
    identity = Identity()
    listener = Listener(identity, "127.0.0.1", 0, str(Path(folder) / "bench.sock"))
    pipe.send((listener.port, identity.fingerprint))
    for _ in range(2):
        edge = listener.accept_from(fingerprint, lambda text: text, time.monotonic() + 30)
        threading.Thread(target=echo_edge, args=(edge,)).start()
    pipe.recv()
    listener.close()


def read_into(sock: socket.socket, view: memoryview) -> bool:
    """Fill `view`; False where the socket ended first."""
    while view:
        count = sock.recv_into(view)
        if not count:
            return False
        view = view[count:]
    return True


def serve_plain(pipe: Connection) -> None:
    """Echo over plain TCP with the same framing: the floor to compare with."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        pipe.send(server.getsockname()[1])
        sock, _ = server.accept()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head, buffer = memoryview(bytearray(5)), memoryview(bytearray(LARGE))
    with sock:
        while read_into(sock, head):
            (length,) = LENGTH.unpack(head[:4])
            read_into(sock, buffer[:length])
            if head[4]:
                sock.sendall(buffer[:length])


def plain_exchange(sock: socket.socket) -> Exchange:
    """Sends over a plain socket, and waits for the echo where one is asked for."""
    buffer = memoryview(bytearray(LARGE))

    def exchange(message: memoryview, echo: bool) -> None:
        sock.sendall(LENGTH.pack(len(message)) + bytes([echo]))
        sock.sendall(message)
        if echo:
            read_into(sock, buffer[: len(message)])

    return exchange


def edge_exchange(edge: Edge) -> Exchange:
    """The same over an edge."""

    def exchange(message: memoryview, echo: bool) -> None:
        edge.send(b"echo" if echo else b"", message)
        if echo:
            edge.recv()

    return exchange


def round_trip(exchange: Exchange, seconds: float) -> float:
    """p50 of 4 KB round trips, in seconds."""
    message, times = memoryview(bytes(SMALL)), []
    end = time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        exchange(message, True)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def throughput(exchange: Exchange, seconds: float) -> float:
    """Bytes a second of 1 MB messages one way; the last one is echoed, so all have arrived."""
    message, sent = memoryview(bytes(LARGE)), 0
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        exchange(message, False)
        sent += LARGE
    exchange(message[:1], True)
    return sent / (time.perf_counter() - start)


def main() -> None:
    """Measure and print, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="per figure and round")
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        identity = Identity()
        spawn = multiprocessing.get_context("spawn")
        here, there = spawn.Pipe()
        edges = spawn.Process(target=serve_edges, args=(there, identity.fingerprint, folder))
        edges.start()
        port, fingerprint = here.recv()
        plain_here, plain_there = spawn.Pipe()
        plain = spawn.Process(target=serve_plain, args=(plain_there,))
        plain.start()
        sock = stack.enter_context(socket.create_connection(("127.0.0.1", plain_here.recv())))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        exchanges = {"plain TCP": plain_exchange(sock)}
        for name, endpoint in (
            ("edge, TCP", Endpoint("127.0.0.1", port)),
            ("edge, Unix socket", Endpoint(unix_path=str(Path(folder) / "bench.sock"))),
        ):
            edge = stack.enter_context(
                dial(identity, endpoint, fingerprint, b"", time.monotonic() + 30)
            )
            exchanges[name] = edge_exchange(edge)
        trips: dict[str, list[float]] = {name: [] for name in exchanges}
        rates: dict[str, list[float]] = {name: [] for name in exchanges}
        for _ in range(options.rounds):
            for name, exchange in exchanges.items():
                trips[name].append(round_trip(exchange, options.seconds))
                rates[name].append(throughput(exchange, options.seconds))
    here.send(None)
    edges.join()
    plain.join()
    base_trip, base_rate = (statistics.median(x["plain TCP"]) for x in (trips, rates))
    print(f"{'':18} {'4 KB round trip p50':>20} {'of plain':>9} {'1 MB, MB/s':>11} {'of plain':>9}")
    for name in exchanges:
        trip, rate = statistics.median(trips[name]), statistics.median(rates[name])
        print(
            f"{name:18} {trip * 1e6:17.0f} µs {trip / base_trip:8.2f}x "
            f"{rate / 1e6:11.0f} {rate / base_rate:8.2f}x"
        )


if __name__ == "__main__":
    main()
