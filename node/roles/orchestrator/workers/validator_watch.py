"""Who may judge this pool's work, and how much stake each verdict carries.

Without a chain: whoever announces itself, one voice each. With one: nodes that have the validator
role and a staked provider; what they accept together must carry the quorum that settles it, so the
stake of those who are not here counts in the whole as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from node.context import NodeContext
from node.roles.orchestrator.coordinator.events import ChainQuorum, Event, PeerValidates
from node.wire.peer_addresses import address_of_peer

Feed = Callable[[Event], Awaitable[None]]


class ValidatorWatch:
    """Feeds the coordinator what changed since the last look."""

    def __init__(self, context: NodeContext, feed: Feed) -> None:
        self._context = context
        self._feed = feed
        self._known: dict[str, int] = {}
        self._quorum: ChainQuorum | None = None

    async def look(self, announced: set[str]) -> None:
        """Compare the validators that are here with those known; a chain that does not answer
        changes nothing."""
        from chain.errors import ChainError

        try:
            weights = await self._weights(announced)
        except ChainError as exc:
            self._context.log.warning("validators not checked", reason=str(exc))
            return
        for peer_id in self._known.keys() | weights.keys():
            if self._known.get(peer_id) != weights.get(peer_id):
                await self._feed(PeerValidates(peer_id, weights.get(peer_id, 0)))
        self._known = weights

    async def _weights(self, announced: set[str]) -> dict[str, int]:
        chain = self._context.chain
        if chain is None:
            return dict.fromkeys(announced, 1)
        terms = await chain.settlement_terms()
        quorum = ChainQuorum(await chain.total_weight(), terms.quorum)
        if quorum != self._quorum:
            await self._feed(quorum)
            self._quorum = quorum
        # Anybody may announce the role; only those who have it are worth a question to the chain.
        validators = set(await chain.validators())
        addresses = {peer_id: address_of_peer(peer_id) for peer_id in sorted(announced)}
        found = {p: await chain.weight_of(a) for p, a in addresses.items() if a in validators}
        return {peer_id: weight for peer_id, weight in found.items() if weight}
