"""Putting the contracts on a chain, and knowing where they are.

A `Deployment` is what every node is handed in its network file: chain id, one address a contract
and the default domain. `deploy` creates the contracts in the order of their needs, names them to
one another in one transaction (chain/deployment/wiring.py), and creates the default domain, whose
work ReceiptSettlement settles. Every step has an idempotency key derived from the parameters and
the code, so an interrupted deployment goes on where it stopped, and a finished one returns the same
addresses.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from chain.abi.artifacts import CONTRACTS, load_artifact
from chain.deployment.parameters import TOKEN, DeploymentParams
from chain.deployment.wiring import wiring_calls
from chain.endpoint.concurrency import for_each
from chain.endpoint.hexdata import parse_address
from chain.endpoint.rpc import Rpc
from chain.errors import (
    BadResponse,
    InvalidDeployment,
    TransactionFailed,
    WrongCode,
)
from chain.transactions.manager import TransactionManager

__all__ = ["TOKEN", "Deployment", "DeploymentParams", "deploy", "verify_deployment"]


@dataclass(frozen=True)
class Deployment:
    """Where the contracts are; `default_domain` is the id of the domain made at deployment."""

    chain_id: int
    addresses: dict[str, str]
    default_domain: int
    block: int

    def address(self, contract: str) -> str:
        """EIP-55 address of one of `artifacts.CONTRACTS`."""
        return self.addresses[contract]

    def to_dict(self) -> dict[str, Any]:
        """As it goes into a network file."""
        return asdict(self)

    @staticmethod
    def from_dict(value: object) -> Deployment:
        """Read what `to_dict` wrote; raises InvalidDeployment that names the bad field."""
        if not isinstance(value, dict):
            raise InvalidDeployment("a deployment is a table of chain_id, addresses, …")
        numbers = {}
        for field in ("chain_id", "default_domain", "block"):
            number = value.get(field)
            if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**63:
                raise InvalidDeployment(f"deployment: {field} must be a whole number")
            numbers[field] = number
        addresses = value.get("addresses")
        if not isinstance(addresses, dict) or set(addresses) != set(CONTRACTS):
            raise InvalidDeployment(f"deployment: addresses must name {', '.join(CONTRACTS)}")
        try:
            checked = {name: parse_address(addresses[name]) for name in CONTRACTS}
        except ValueError as exc:
            raise InvalidDeployment(f"deployment: {exc}") from exc
        return Deployment(addresses=checked, **numbers)


async def verify_deployment(rpc: Rpc, deployment: Deployment) -> None:
    """Check that the chain is the right one and that its code at every address is this version's.

    What constructors choose is not compared; `chain.deployment.verification` does that. Raises
    InvalidDeployment, and WrongCode naming the contract.
    """
    chain_id = await rpc.chain_id()
    if chain_id != deployment.chain_id:
        raise InvalidDeployment(
            f"the contracts are on chain {deployment.chain_id}, but {rpc.url} serves {chain_id}; "
            "give the RPC of the right chain"
        )
    codes = await for_each(deployment.addresses.values(), rpc.code)
    for name, address in deployment.addresses.items():
        if not codes[address]:
            raise InvalidDeployment(
                f"{name} is not at {address} on {rpc.url}; was the chain restarted? Deploy again"
            )
        if not load_artifact(name).matches(codes[address]):
            raise WrongCode(name, address, rpc.url)


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
