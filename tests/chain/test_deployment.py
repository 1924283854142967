"""Deployments: files, resumption, verification, and agreement on every signed digest."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from chain.account import open_account
from chain.artifacts import CONTRACTS
from chain.client import open_chain
from chain.database import Database
from chain.deployment import Deployment, deploy, verify_deployment
from chain.devnet.server import DevChain
from chain.errors import InvalidDeployment
from chain.faucet import request_funds
from chain.transactions.machine import State, Transaction
from chain.transactions.manager import open_manager
from chain.transactions.store import TransactionStore
from proofs.receipts import EpochRoot, Receipt
from proofs.signing import address_of
from tests.chain.conftest import FAST, World

SAMPLE = Deployment(
    31337, {name: "0x" + f"{i:02x}" * 20 for i, name in enumerate(CONTRACTS, 1)}, 1, 2
)


def test_a_deployment_round_trips_through_json() -> None:
    assert Deployment.from_dict(json.loads(json.dumps(SAMPLE.to_dict()))) == SAMPLE


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"chain_id": "31337"}, "chain_id"),
        ({"chain_id": True}, "chain_id"),
        ({"default_domain": -1}, "default_domain"),
        ({"addresses": {}}, "PrimeToken"),
        ({"addresses": SAMPLE.addresses | {"PrimeToken": "0x12"}}, "expected 20 bytes"),
        ({"addresses": SAMPLE.addresses | {"Other": "0x12"}}, "PrimeToken"),
    ],
)
def test_a_broken_deployment_names_its_field(change: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidDeployment, match=named):
        Deployment.from_dict(SAMPLE.to_dict() | change)
    with pytest.raises(InvalidDeployment):
        Deployment.from_dict([])


class _Crash(Exception):
    """The process dies here."""


class _DyingStore(TransactionStore):
    """Dies once so many transactions are final."""

    def __init__(self, database: Database, after: int) -> None:
        super().__init__(database)
        self._left = after

    def save(self, tx: Transaction) -> None:
        super().save(tx)
        self._left -= tx.state is State.CONFIRMED
        if self._left == 0:
            raise _Crash


async def test_an_interrupted_deployment_goes_on_and_a_finished_one_stays(
    devnet: DevChain, tmp_path: Path
) -> None:
    key, path = os.urandom(32), tmp_path / "d.sqlite"
    await request_funds(devnet.url, address_of(key))
    async with open_account(devnet.url, key, path, settings=FAST) as account:
        genesis = await account.rpc.block(0)
        assert genesis is not None
        rpc = account.rpc
        other = Database(
            tmp_path / "e.sqlite", chain_id=31337, genesis=genesis.hash, address=address_of(key)
        )
        with pytest.RaisesGroup(_Crash):
            async with open_manager(rpc, key, _DyingStore(other, after=5), FAST) as dying:
                await deploy(rpc, dying)
        async with open_manager(rpc, key, TransactionStore(other), FAST) as manager:
            deployment = await deploy(rpc, manager)
            count = await rpc.nonce(manager.address)
            assert await deploy(rpc, manager) == deployment
            assert await rpc.nonce(manager.address) == count == len(CONTRACTS) + 7 + 1
        other.close()
        await verify_deployment(rpc, deployment)
        with pytest.raises(InvalidDeployment, match="serves 31337"):
            await verify_deployment(rpc, replace(deployment, chain_id=1))
    with pytest.raises(InvalidDeployment, match="PrimeToken is not at"):
        async with open_chain(devnet.url, SAMPLE, key, tmp_path / "f.sqlite", settings=FAST):
            pass


async def test_contracts_and_encodings_agree_on_every_digest(world: World) -> None:
    client = await world.client()
    domain = client.domain("ReceiptSettlement")
    root = EpochRoot(
        pool_id=3,
        epoch=2**64 - 1,
        receipts_root=b"\x01" * 32,
        payouts_root=b"\x02" * 32,
        total_payout=2**255,
        data_hash=b"\x03" * 32,
    )
    worker, counterparty = os.urandom(32), os.urandom(32)
    receipt = Receipt(
        job_id=b"\x04" * 32,
        worker=address_of(worker),
        pool_id=3,
        stage=1,
        seq=2**32 - 1,
        counterparty=address_of(counterparty),
        epoch=9,
        units=2**128 - 1,
        commitment=b"\x05" * 32,
    )
    root_fields = tuple(root.model_dump().values())
    fields = tuple(receipt.model_dump().values())
    read = client.caller.read
    assert await read("ReceiptSettlement", "rootDigest", root_fields) == root.digest(domain)
    assert await read("ReceiptSettlement", "receiptDigest", fields) == receipt.digest(domain)
    mine, theirs = receipt.sign(worker, domain), receipt.sign(counterparty, domain)
    assert await read("ReceiptSettlement", "verifyReceipt", fields, mine, theirs) is True
    assert await read("ReceiptSettlement", "verifyReceipt", fields, theirs, mine) is False


async def test_keys_never_show(world: World) -> None:
    key = os.urandom(32)
    client = await world.client(key)
    for thing in (client, client.caller.manager, client.caller.manager._network):
        assert key.hex() not in repr(thing)
        assert client.address in repr(thing)
