"""What settling costs: gas per receipt by epoch size, gas of claims and disputes, CPU of the trees.

    python scripts/bench/bench_settlement.py [--sizes 1 16 256 4096] [--backend auto] [--json]

A chain with the contracts, three staked validators, who all sign, and 50 workers of 50 providers.
For each size a new pool, and in it two epochs over that many receipts, truly signed by both sides:
the first one of a pool writes more storage than all later ones. Gas is of whole transactions as
mined. The alternative is the reference protocol, which sends one transaction for every work
submission: 235,228 gas each, as measured on its own contract (`submitWork`).

CPU is of one core: "make" is settling from signed receipts to root, with every signature checked;
"audit" is what each other validator does before it signs, from the published bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import trio
from machine import machine, watch

from chain.client import ChainClient, open_chain
from chain.deployment.parameters import DeploymentParams
from chain.devnet.bootstrap import deploy_on_devnet
from chain.devnet.server import serve_devnet
from chain.endpoint.faucet import request_funds
from chain.transactions.manager import TxResult
from chain.transactions.sender import SenderSettings
from proofs.encoding.leaves import PostedRoot, SignedReceipt, ascending
from proofs.encoding.receipts import Receipt
from proofs.encoding.signing import address_of
from proofs.settlement.audit import AuditFacts, audit
from proofs.settlement.epoch import build_epoch
from proofs.settlement.epoch_data import Epoch, rebuild

REFERENCE_GAS = 235_228
WORKERS = 50
VALIDATORS = 3
STAKE = 1_000 * 10**18
RATE = 10**12
BUDGET = 1_000 * 10**18
FAST = SenderSettings(poll=0.05)


@dataclass(frozen=True)
class Row:
    """One epoch size. Gas of whole transactions, seconds of one core, bytes of published data."""

    receipts: int
    post_first: int
    post_later: int
    claim_first: int
    claim_later: int
    ask_receipt: int
    answer_receipt: int
    ask_payout: int
    answer_payout: int
    make_seconds: float
    audit_seconds: float
    data_bytes: int

    @property
    def first(self) -> float:
        """Gas a receipt in a pool's first epoch."""
        return self.post_first / self.receipts

    @property
    def later(self) -> float:
        """Gas a receipt in later epochs."""
        return self.post_later / self.receipts


class Bench:
    """The network on chain: who signs, who works, who owns the pools."""

    def __init__(self, chain: ChainClient, folder: Path) -> None:
        self.chain = chain
        self.domain = chain.domain("ReceiptSettlement")
        self.workers = [os.urandom(32) for _ in range(WORKERS)]
        self.validators = [os.urandom(32) for _ in range(VALIDATORS)]
        self.owners: dict[str, str] = {}
        self._folder = folder

    async def enrol(self) -> None:
        """Register every node under a provider of its own, and the validators as such."""
        limit = trio.CapacityLimiter(8)

        async def one(node_key: bytes, stake: int) -> None:
            async with limit:
                key = os.urandom(32)
                await request_funds(self.chain.rpc.url, address_of(key))
                path = self._folder / f"{address_of(key)}.sqlite"
                url, deployment = self.chain.rpc.url, self.chain.deployment
                async with open_chain(url, deployment, key, path, settings=FAST) as provider:
                    record = await provider.nodes.register(node_key, stake, 1)
                self.owners[address_of(node_key)] = record.provider

        async with trio.open_nursery() as nursery:
            for key in self.workers:
                nursery.start_soon(one, key, 20 * 10**18)
            for key in self.validators:
                nursery.start_soon(one, key, STAKE)
        for key in self.validators:
            await self.chain.validators.grant(address_of(key))

    def receipts(self, pool_id: int, count: int) -> list[SignedReceipt]:
        """`count` receipts for the pool, each signed by a worker and its neighbour."""
        made = []
        for number in range(count):
            worker, neighbour = (self.workers[(number + step) % WORKERS] for step in (0, 1))
            receipt = Receipt(
                job_id=os.urandom(32),
                worker=address_of(worker),
                pool_id=pool_id,
                stage=number % 3,
                seq=0,
                counterparty=address_of(neighbour),
                epoch=1,
                units=1_000,
                commitment=os.urandom(32),
            )
            signatures = receipt.sign(worker, self.domain), receipt.sign(neighbour, self.domain)
            made.append(SignedReceipt(receipt, *signatures))
        return made

    async def size(self, count: int) -> Row:
        """Two epochs of `count` receipts in a new pool, disputed, answered and claimed."""
        chain = self.chain
        pool_id = await chain.pools.create(f"bench {count}", rate=RATE)
        await chain.pools.fund(pool_id, BUDGET)
        await chain.pools.start(pool_id)
        first, make_seconds = self._make(pool_id, 1, count, {})
        posted, post_first = await self._post(first)
        asked = await self._ask(first, posted)
        await self._until_final(pool_id, 1)
        claim_first = await self._claim(first, posted)
        later, _ = self._make(pool_id, 2, count, first.earned)
        posted_later, post_later = await self._post(later)
        await self._until_final(pool_id, 2)
        return Row(
            count,
            post_first,
            post_later,
            claim_first,
            await self._claim(later, posted_later),
            *asked,
            make_seconds=make_seconds,
            audit_seconds=self._audit(first, await self._creator(pool_id)),
            data_bytes=len(first.content),
        )

    def _make(
        self, pool_id: int, number: int, count: int, earned: dict[str, int]
    ) -> tuple[Epoch, float]:
        receipts = self.receipts(pool_id, count)
        started = time.process_time()
        epoch = build_epoch(
            receipts,
            self.owners,
            domain=self.domain,
            pool_id=pool_id,
            epoch=number,
            price=RATE,
            available=BUDGET - sum(earned.values()),
            earned=earned,
        )
        return epoch, time.process_time() - started

    def _audit(self, epoch: Epoch, creator: str) -> float:
        facts = AuditFacts(self.domain, creator, self.owners, {}, {})
        started = time.process_time()
        faults = audit(epoch.root, rebuild(epoch.content, self.domain), facts)
        spent = time.process_time() - started
        assert not faults, faults
        return spent

    async def _post(self, epoch: Epoch) -> tuple[PostedRoot, int]:
        signatures = [(address_of(k), epoch.root.sign(k, self.domain)) for k in self.validators]
        result = await self.chain.settlement.post_root(epoch.root, signatures)
        return PostedRoot(epoch.root, ascending([s for s, _ in signatures])), _gas(result)

    async def _ask(self, epoch: Epoch, posted: PostedRoot) -> tuple[int, int, int, int]:
        """Gas of asking about the last leaf and about an account, and of both answers."""
        chain, index = self.chain, len(epoch.leaves) - 1
        account = epoch.leaves[index].account
        asked = await self._gas_of(chain.disputes.dispute_receipt(posted, index))
        answered = await chain.disputes.answer_receipt(
            asked[1],
            posted,
            epoch.leaf(index),
            epoch.leaf(index - 1) if index else None,
            epoch.data.receipts[index].signed,
        )
        payout = epoch.payout(account)
        assert payout is not None
        asked_too = await self._gas_of(chain.disputes.dispute_payout(posted, account, payout))
        answer = epoch.answer(account, None)
        answered_too = await chain.disputes.answer_payout(asked_too[1], posted, None, answer)
        return asked[0], _gas(answered), asked_too[0], _gas(answered_too)

    async def _gas_of(self, asking: Any) -> tuple[int, int]:
        """Gas of a question, which is the transaction in the newest block, and its dispute."""
        dispute_id = await asking
        block = await self.chain.rpc.request("eth_getBlockByNumber", ["latest", True])
        assert isinstance(block, dict)
        receipt = await self.chain.rpc.receipt(
            bytes.fromhex(block["transactions"][-1]["hash"].removeprefix("0x"))
        )
        assert receipt is not None
        return receipt.gas_used, dispute_id

    async def _claim(self, epoch: Epoch, posted: PostedRoot) -> int:
        account = epoch.leaves[0].account
        payout = epoch.payout(account)
        assert payout is not None
        return _gas(
            await self.chain.settlement.claim(posted, account, payout.cumulative, payout.proof)
        )

    async def _until_final(self, pool_id: int, number: int) -> None:
        await self.chain.rpc.request("evm_increaseTime", [3_600])
        await self.chain.rpc.request("evm_mine", [])
        while not await self.chain.settlement.is_final(pool_id, number):  # noqa: ASYNC110 - a chain's clock
            await trio.sleep(0.05)

    async def _creator(self, pool_id: int) -> str:
        return (await self.chain.pools.info(pool_id)).creator


def _gas(result: TxResult | None) -> int:
    assert result is not None
    return result.gas_used


async def run(sizes: list[int], backend: Any) -> list[Row]:
    """Measure every size on a chain made for it."""
    params = DeploymentParams(challenge_window=900, answer_window=900, unbonding_period=7_200)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with trio.open_nursery() as nursery:
            dev = await nursery.start(partial(serve_devnet, "127.0.0.1", 0, backend=backend))
            key = os.urandom(32)
            path = folder / "owner.sqlite"
            deployment = await deploy_on_devnet(dev.url, key, path, params, settings=FAST)
            async with open_chain(dev.url, deployment, key, path, settings=FAST) as chain:
                bench = Bench(chain, folder)
                await bench.enrol()
                rows = [await bench.size(count) for count in sizes]
            nursery.cancel_scope.cancel()
    return rows


def show(rows: list[Row]) -> None:
    """Print gas of posting, claiming and disputing."""
    posting = ("receipts", "post, first", "later", "a receipt", "later", "reference", "ratio")
    print(
        " ".join(f"{word:>{w}}" for word, w in zip(posting, (8, 12, 9, 10, 9, 10, 9), strict=True))
    )
    for row in rows:
        print(
            f"{row.receipts:8,} {row.post_first:12,} {row.post_later:9,} {row.first:10,.1f}"
            f" {row.later:9,.1f} {REFERENCE_GAS:10,} {REFERENCE_GAS / row.first:8,.1f}x"
        )
    rest = ("receipts", "claim", "later", "ask leaf", "answer", "ask payout", "answer", "make s",
            "audit s", "bytes")  # fmt: skip
    spaces = (8, 8, 8, 9, 8, 11, 8, 7, 8, 6)
    print("\n" + " ".join(f"{word:>{w}}" for word, w in zip(rest, spaces, strict=True)))
    for row in rows:
        print(
            f"{row.receipts:8,} {row.claim_first:8,} {row.claim_later:8,} {row.ask_receipt:9,}"
            f" {row.answer_receipt:8,} {row.ask_payout:11,} {row.answer_payout:8,}"
            f" {row.make_seconds:7.2f} {row.audit_seconds:8.2f}"
            f" {row.data_bytes / row.receipts:6.0f}"
        )
    print("\nbytes: published data per receipt; seconds: CPU of one core")
    largest = rows[-1]
    print(
        f"summary: {largest.first:.1f} gas per receipt at {largest.receipts:,} receipts (first"
        f" epoch; later {largest.later:.1f}), {REFERENCE_GAS:,} in the reference"
    )


def main() -> None:
    """Measure and print, as the command line asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--sizes", nargs="+", type=int, default=[1, 16, 256, 4096])
    parser.add_argument("--backend", choices=["auto", "anvil", "py-evm"], default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with watch() as watched:
        rows = trio.run(run, options.sizes, options.backend)
    if options.json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return
    print(f"{machine()}; {watched.others:.2f} cores busy with others\n")
    show(rows)


if __name__ == "__main__":
    main()
