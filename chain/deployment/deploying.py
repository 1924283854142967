"""Putting the contracts on a chain.

`deploy` creates the contracts in the order in which they need one another, wires them together in
one transaction (chain/deployment/wiring.py), and creates the default domain, whose work
ReceiptSettlement settles. Every step has an idempotency key derived from the parameters and the
code, so an interrupted deployment continues where it stopped, and a finished one returns the same
addresses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from chain.deployment.deployment import Deployment
from chain.deployment.parameters import DeploymentParams
from chain.deployment.verification import verify_deployment
from chain.deployment.wiring import wiring_calls
from chain.encoding.artifacts import CONTRACTS, load_artifact
from chain.encoding.hexdata import parse_address
from chain.endpoint.rpc import Rpc
from chain.errors import BadResponse, TransactionFailed
from chain.transactions.manager import TransactionManager


async def deploy(
    rpc: Rpc,
    manager: TransactionManager,
    params: DeploymentParams | None = None,
    *,
    progress: Callable[[str], None] = lambda step: None,
) -> Deployment:
    """Deploy and wire all contracts from the manager's key.

    That key becomes administrator, federator and owner of the token. `progress` is told of every
    step that is done. Resumable: run it again with the same key, database and parameters. Raises
    ChainError.
    """
    return await _Deployer(rpc, manager, params or DeploymentParams(), progress).run()


class _Deployer:
    def __init__(
        self,
        rpc: Rpc,
        manager: TransactionManager,
        params: DeploymentParams,
        progress: Callable[[str], None],
    ) -> None:
        self._rpc = rpc
        self._manager = manager
        self._params = params
        self._progress = progress
        code = b"".join(load_artifact(name).bytecode for name in CONTRACTS)
        self._tag = hashlib.sha256(repr(params).encode() + code).hexdigest()[:16]
        self._at: dict[str, str] = {}
        self._first_block = 0

    async def run(self) -> Deployment:
        self._params.check()
        await self._create_contracts()
        calls = wiring_calls(self._at, self._manager.address)
        data = load_artifact("PrimeAccess").abi.encode("multicall", calls)
        await self._call("wiring", "PrimeAccess", data)
        self._progress("roles granted")
        domain = await self._create_domain()
        self._progress(f"domain {domain}, {self._params.domain_name}")
        deployment = Deployment(
            await self._rpc.chain_id(), dict(self._at), domain, self._first_block
        )
        await verify_deployment(self._rpc, deployment)
        return deployment

    async def _create_contracts(self) -> None:
        params, at, admin = self._params, self._at, self._manager.address
        await self._create("PrimeToken", admin, params.initial_supply)
        await self._create("PrimeAccess", admin)
        access, token = at["PrimeAccess"], at["PrimeToken"]
        await self._create("ComputeRegistry", access)
        await self._create("DomainRegistry", access)
        registries = (at["ComputeRegistry"], at["DomainRegistry"])
        stake_terms = (
            parse_address(params.treasury or admin),
            params.unbonding_period,
            params.base_stake,
            params.stake_per_unit,
            params.slash_cap,
            params.bounty_share,
        )
        await self._create("StakeManager", access, token, registries[0], stake_terms)
        await self._create("PrimeNetwork", access, token, at["StakeManager"], *registries)
        await self._create("RewardsDistributor", access, token)
        network, purse = at["PrimeNetwork"], at["RewardsDistributor"]
        await self._create("ComputePool", token, network, purse, params.reclaim_delay)
        terms = (
            params.quorum,
            params.challenge_window,
            params.answer_window,
            params.bond,
            params.signer_slash,
            params.conviction_slash,
        )
        await self._create(
            "ReceiptSettlement", access, token, network, at["ComputePool"], purse, terms
        )

    async def _create(self, name: str, *args: object) -> None:
        artifact = load_artifact(name)
        data = artifact.abi.encode_constructor(artifact.bytecode, *args)
        key = f"deploy/{self._tag}/{name}"
        result = await self._manager.send(key, None, data)
        receipt = await self._rpc.receipt(result.hash)
        if not result.status or receipt is None or receipt.contract is None:
            raise TransactionFailed(key, "0x" + result.hash.hex())
        self._at[name] = receipt.contract
        self._first_block = self._first_block or receipt.block_number
        self._progress(f"{name} at {receipt.contract}")

    async def _create_domain(self) -> int:
        abi = load_artifact("PrimeNetwork").abi
        settlement = self._at["ReceiptSettlement"]
        data = abi.encode("createDomain", self._params.domain_name, settlement, "")
        tx_hash = await self._call("domain", "PrimeNetwork", data)
        receipt = await self._rpc.receipt(tx_hash)
        registry = load_artifact("DomainRegistry").abi
        for log in receipt.logs if receipt is not None else ():
            if log.address == self._at["DomainRegistry"]:
                name, arguments = registry.decode_event(log)
                if name == "DomainCreated":
                    return int(arguments["domainId"])
        raise BadResponse(
            f"{self._rpc.url}: the receipt of createDomain has no DomainCreated event"
        )

    async def _call(self, step: str, contract: str, data: bytes) -> bytes:
        key = f"deploy/{self._tag}/{step}"
        result = await self._manager.send(key, self._at[contract], data)
        if not result.status:
            raise TransactionFailed(key, "0x" + result.hash.hex())
        return result.hash
