"""Connection events for the application, delivered without ever blocking the network.

Each subscriber has a bounded channel. When it does not keep up, its *oldest* event is dropped and
counted: the newest state of a peer always arrives, and whoever needs certainty asks
`Network.connected`. A peer with several connections (for a moment) yields one event each way.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

CAPACITY = 256


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """The peer's first live connection is there."""

    peer_id: str


@dataclass(frozen=True, slots=True)
class PeerDisconnected:
    """The peer's last connection is gone."""

    peer_id: str


PeerEvent = PeerConnected | PeerDisconnected


class PeerEvents:
    """Fans events out to any number of subscribers."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._channels: list[
            tuple[trio.MemorySendChannel[PeerEvent], trio.MemoryReceiveChannel[PeerEvent]]
        ] = []
        self.dropped = 0

    def subscribe(self) -> trio.MemoryReceiveChannel[PeerEvent]:
        """A channel with the events from now on; closing it unsubscribes."""
        send, receive = trio.open_memory_channel[PeerEvent](self._capacity)
        # The second handle lets `publish` take the oldest event out of a full buffer.
        self._channels.append((send, receive.clone()))
        return receive

    def publish(self, event: PeerEvent) -> None:
        """Hand the event to every subscriber; a full channel loses its oldest event for it."""
        for send, drain in list(self._channels):
            statistics = send.statistics()
            if statistics.open_receive_channels == 1:  # only our own handle is left
                self._channels.remove((send, drain))
                send.close()
                drain.close()
                continue
            if statistics.current_buffer_used == self._capacity:
                drain.receive_nowait()
                self.dropped += 1
            send.send_nowait(event)

    def close(self) -> None:
        """End all subscriptions: their receivers see the end of the channel."""
        for send, drain in self._channels:
            send.close()
            drain.close()
        self._channels.clear()
