"""Deployments: files, resumption, verification, and agreement on every signed digest."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from chain.client import open_chain
from chain.database import Database
from chain.deployment.deploying import deploy
from chain.deployment.deployment import Deployment
from chain.deployment.parameters import DeploymentParams
from chain.deployment.verification import verify_deployment
from chain.devnet.server import DevChain
from chain.encoding.artifacts import CONTRACTS, load_artifact
from chain.encoding.structs import message, signed_struct
from chain.endpoint.faucet import request_funds
from chain.endpoint.rpc import open_rpc
from chain.errors import InvalidDeployment, InvalidInput, WrongCode
from chain.transactions.account import open_account
from chain.transactions.machine import State, Transaction
from chain.transactions.manager import open_manager
from chain.transactions.store import TransactionStore
from proofs.encoding.leaves import SignedReceipt
from proofs.encoding.receipts import Conviction, EpochRoot, Receipt
from proofs.encoding.signing import address_of
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
    """Dies when so many transactions have come to `state`, once that is on disk."""

    def __init__(self, database: Database, after: int, state: State) -> None:
        super().__init__(database)
        self._left = after
        self._state = state

    def save(self, tx: Transaction) -> None:
        super().save(tx)
        self._left -= tx.state is self._state
        if self._left == 0:
            raise _Crash


STEPS = len(CONTRACTS) + 2
"""Transactions of a deployment: the contracts, their wiring, the domain."""


async def test_a_deployment_goes_on_wherever_it_was_interrupted(
    any_devnet: DevChain, tmp_path: Path
) -> None:
    async with open_rpc(any_devnet.url) as rpc:
        genesis = await rpc.block(0)
        assert genesis is not None
        for step in range(1, STEPS + 1):
            key = os.urandom(32)
            address = address_of(key)
            await request_funds(any_devnet.url, address)
            database = Database(
                tmp_path / address, chain_id=31337, genesis=genesis.hash, address=address
            )
            with pytest.RaisesGroup(_Crash):
                # In turn before the transaction was sent, and when it was final.
                dying = _DyingStore(database, step, (State.SIGNED, State.CONFIRMED)[step % 2])
                async with open_manager(rpc, key, dying, FAST) as manager:
                    await deploy(rpc, manager)
            said: list[str] = []
            async with open_manager(rpc, key, TransactionStore(database), FAST) as manager:
                deployment = await deploy(rpc, manager, progress=said.append)
                assert await deploy(rpc, manager) == deployment
            database.close()
            assert await rpc.nonce(address) == STEPS
            assert len(said) == STEPS
            assert all(any(name in line for line in said) for name in CONTRACTS)


async def test_other_parameters_are_another_deployment(
    any_devnet: DevChain, tmp_path: Path
) -> None:
    key = os.urandom(32)
    await request_funds(any_devnet.url, address_of(key))
    async with open_account(any_devnet.url, key, tmp_path / "d.sqlite", settings=FAST) as account:
        first = await deploy(account.rpc, account.manager)
        second = await deploy(account.rpc, account.manager, DeploymentParams(bond=7))
        assert set(first.addresses.values()).isdisjoint(second.addresses.values())
        await verify_deployment(account.rpc, first)
        await verify_deployment(account.rpc, second)
        with pytest.raises(InvalidDeployment, match="serves 31337"):
            await verify_deployment(account.rpc, replace(first, chain_id=1))
        swapped = first.addresses | {"ComputeRegistry": first.address("DomainRegistry")}
        with pytest.raises(WrongCode, match="is not ComputeRegistry of this version") as wrong:
            await verify_deployment(account.rpc, replace(first, addresses=swapped))
        assert wrong.value.contract == "ComputeRegistry"
        count = await account.rpc.nonce(account.manager.address)
        with pytest.raises(InvalidInput, match="unbonding_period"):
            await deploy(account.rpc, account.manager, DeploymentParams(answer_window=60))
        assert await account.rpc.nonce(account.manager.address) == count, "nothing was spent"
    with pytest.raises(InvalidDeployment, match="PrimeToken is not at"):
        async with open_chain(any_devnet.url, SAMPLE, key, tmp_path / "f.sqlite", settings=FAST):
            pass


def test_code_is_compared_but_for_what_constructors_choose() -> None:
    artifact = load_artifact("ComputePool")
    start, length = artifact.immutables[0]
    code = bytearray(artifact.runtime)
    code[start : start + length] = b"\x11" * length
    assert artifact.matches(bytes(code))
    assert not artifact.matches(bytes(code[:-1]))
    code[start - 1] ^= 1
    assert not artifact.matches(bytes(code))


@pytest.mark.each_chain
async def test_contracts_and_encodings_agree_on_every_digest(world: World) -> None:
    client = await world.client()
    domain = client.domain("ReceiptSettlement")
    root = EpochRoot(
        pool_id=3,
        epoch=2**64 - 1,
        receipts_root=b"\x01" * 32,
        payouts_root=b"\x02" * 32,
        receipt_count=2**64 - 1,
        total_units=2**128 - 1,
        rate=7,
        total_payout=2**127,
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
    conviction = Conviction(
        pool_id=3, node=address_of(worker), job_id=b"\x04" * 32, evidence=b"\x06" * 32
    )

    async def read(function: str, argument: object) -> object:
        return await client.caller.read("ReceiptSettlement", function, argument)

    assert await read("rootDigest", message(root)) == root.digest(domain)
    assert await read("receiptDigest", message(receipt)) == receipt.digest(domain)
    assert await read("convictionDigest", message(conviction)) == conviction.digest(domain)
    mine, theirs = receipt.sign(worker, domain), receipt.sign(counterparty, domain)
    signed = SignedReceipt(receipt, mine, theirs)
    assert await read("verifyReceipt", signed_struct(signed)) is True
    swapped = SignedReceipt(receipt, theirs, mine)
    assert await read("verifyReceipt", signed_struct(swapped)) is False


async def test_keys_never_show(world: World) -> None:
    key = os.urandom(32)
    client = await world.client(key)
    for thing in (client, client.caller.manager):
        assert key.hex() not in repr(thing)
        assert client.address in repr(thing)
