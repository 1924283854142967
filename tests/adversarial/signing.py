"""A validator that is asked to sign epochs, and who asks it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from node.roles.validator.journal_events import EpochCosigned
from node.wire.messages.settlement import CosignRequest
from node.wire.methods import COSIGN
from proofs.encoding.receipts import EpochRoot
from proofs.evidence.bundle import UnitBundle, signed_receipts
from proofs.settlement.epoch import build_epoch
from proofs.settlement.epoch_data import Epoch, EpochData, make
from tests.adversarial.harness import Node, open_node
from tests.adversarial.ledger import BUDGET
from tests.adversarial.standins import DOMAIN, POOL, PRICE
from tests.adversarial.validator_scenario import ValidatorScenario, open_scenario


@dataclass
class Signing:
    """`proposer` has more stake than the judge; neither can post alone."""

    scenario: ValidatorScenario
    proposer: Node
    stranger: Node

    async def accepted(self, *units: bytes) -> list[UnitBundle]:
        """Units that the judge accepted."""
        bundles = [self.scenario.bundle(unit) for unit in units]
        for bundle in bundles:
            await self.scenario.verify(bundle)
        await self.scenario.judged(*bundles)
        return bundles

    def epoch(self, bundles: Sequence[UnitBundle], **changes: Any) -> Epoch:
        options: dict[str, Any] = {
            "domain": DOMAIN,
            "pool_id": POOL,
            "epoch": 1,
            "price": PRICE,
            "available": BUDGET,
            "earned": {},
            "attempt": 7,  # not what the judge would propose itself, and then has
        }
        receipts = [item for bundle in bundles for item in signed_receipts(bundle)]
        return build_epoch(receipts, self.scenario.ledger.owners, **(options | changes))

    async def publish(self, epoch: Epoch) -> EpochRoot:
        await self.proposer.follower.blobs.put(epoch.content)
        return epoch.root

    def changed(self, epoch: Epoch, **changes: Any) -> Epoch:
        """The epoch with other data, which make another root."""
        return make(EpochData.model_validate({**dict(epoch.data), **changes}), DOMAIN)

    async def ask(self, root: EpochRoot | bytes, sender: Node | None = None) -> dict[str, Any]:
        assert self.scenario.judge is not None
        data = root if isinstance(root, bytes) else root.to_bytes()
        sender = sender or self.proposer
        answer = await sender.ask(self.scenario.judge.peer_id, COSIGN, CosignRequest(root=data))
        return dict(answer)

    async def refused(self, root: EpochRoot | bytes, sender: Node | None = None) -> str:
        assert self.scenario.judge is not None
        data = root if isinstance(root, bytes) else root.to_bytes()
        request = CosignRequest(root=data)
        return await (sender or self.proposer).refused(self.scenario.judge.peer_id, COSIGN, request)

    async def cosigned(self) -> int:
        assert self.scenario.judge is not None
        return len(await self.scenario.judge.context.journal.replay(EpochCosigned))


@asynccontextmanager
async def open_signing(folder: Path) -> AsyncIterator[Signing]:
    async with open_scenario(folder) as c, AsyncExitStack() as stack:
        hosts = [
            await stack.enter_async_context(
                open_node(number, folder / name, boot=c.owner, ledger=c.ledger)
            )
            for number, name in ((40, "proposer"), (41, "stranger"))
        ]
        c.ledger.weights[hosts[0].address] = 60
        hosts[0].follower.blobs.serve()
        await stack.enter_async_context(c.session(weight=40))
        await hosts[0].announce("validator")
        yield Signing(c, *hosts)
