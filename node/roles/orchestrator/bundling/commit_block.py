"""The block at which all claims of a bundle are in: what is checked follows from a later one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from chain.errors import ChainError

if TYPE_CHECKING:
    from chain.client import ChainClient


class CommitBlock(Protocol):
    """Says how far the chain is."""

    async def newest(self) -> int:
        """The newest block's number; 0 where no chain tells, and all is replayed."""
        ...


class ChainCommitBlock:
    """As the chain's endpoint says."""

    def __init__(self, chain: ChainClient, log: Any) -> None:
        self._chain = chain
        self._log = log

    async def newest(self) -> int:
        """The newest block's number; 0 while the endpoint does not answer."""
        try:
            head = await self._chain.rpc.block("latest")
        except ChainError as exc:
            self._log.warning("a bundle without its block", reason=str(exc))
            return 0
        return 0 if head is None else head.number


class NoCommitBlock:
    """Without a chain."""

    async def newest(self) -> int:
        """No block."""
        return 0
