"""Putting the contracts on a chain, and knowing where they are.

A `Deployment` is what every node is handed in its network file: chain id, one address a contract
and the default domain. `deploy` creates the contracts in the order of their needs and names them to
one another by role. Every step has an idempotency key derived from the parameters and the code, so
an interrupted deployment goes on where it stopped, and a finished one returns the same addresses.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

from chain.artifacts import CONTRACTS, load_artifact
from chain.errors import BadResponse, InvalidDeployment, TransactionFailed
from chain.hexdata import ZERO_ADDRESS, keccak, parse_address
from chain.rpc import Rpc
from chain.transactions.manager import TransactionManager

TOKEN = 10**18


@dataclass(frozen=True)
class DeploymentParams:
    """What the contracts are constructed with. Amounts in token units of 1e-18, times in seconds.

    `treasury` None is the deployer. The defaults suit a development chain: roots can be claimed
    against at once, one validator is a quorum, and stakes come back within a minute.
    `slash_cap` is in hundredths of a percent of a provider's tokens.
    """

    initial_supply: int = 1_000_000_000 * TOKEN
    treasury: str | None = None
    unbonding_period: int = 60
    base_stake: int = 10 * TOKEN
    stake_per_unit: int = TOKEN
    slash_cap: int = 5_000
    reclaim_delay: int = 60
    quorum: int = 1
    challenge_window: int = 0
    domain_name: str = "inference"


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
    """Check chain id and that every address holds code; raises InvalidDeployment."""
    chain_id = await rpc.chain_id()
    if chain_id != deployment.chain_id:
        raise InvalidDeployment(
            f"the contracts are on chain {deployment.chain_id}, but {rpc.url} serves {chain_id}; "
            "give the RPC of the right chain"
        )
    for name, address in deployment.addresses.items():
        if not await rpc.code(address):
            raise InvalidDeployment(
                f"{name} is not at {address} on {rpc.url}; was the chain restarted? Deploy again"
            )


async def deploy(
    rpc: Rpc, manager: TransactionManager, params: DeploymentParams | None = None
) -> Deployment:
    """Deploy and wire all contracts from the manager's key, which becomes their administrator.

    Resumable: run it again with the same key, database and parameters. Raises ChainError.
    """
    return await _Deployer(rpc, manager, params or DeploymentParams()).run()


class _Deployer:
    def __init__(self, rpc: Rpc, manager: TransactionManager, params: DeploymentParams) -> None:
        self._rpc = rpc
        self._manager = manager
        self._params = params
        code = b"".join(load_artifact(name).bytecode for name in CONTRACTS)
        self._tag = hashlib.sha256(repr(params).encode() + code).hexdigest()[:16]
        self._at: dict[str, str] = {}
        self._first_block = 0

    async def run(self) -> Deployment:
        params, at, admin = self._params, self._at, self._manager.address
        await self._create("PrimeToken", admin, params.initial_supply)
        await self._create("ComputeRegistry", admin)
        await self._create("DomainRegistry", admin)
        await self._create(
            "StakeManager",
            admin,
            at["PrimeToken"],
            at["ComputeRegistry"],
            params.treasury or admin,
            params.unbonding_period,
            params.base_stake,
            params.stake_per_unit,
            params.slash_cap,
        )
        modules = (at["StakeManager"], at["ComputeRegistry"], at["DomainRegistry"])
        await self._create("PrimeNetwork", admin, at["PrimeToken"], *modules)
        await self._create("RewardsDistributor", admin, at["PrimeToken"])
        network, purse = at["PrimeNetwork"], at["RewardsDistributor"]
        await self._create("ComputePool", at["PrimeToken"], network, purse, params.reclaim_delay)
        await self._create(
            "ReceiptSettlement",
            network,
            at["ComputePool"],
            purse,
            params.quorum,
            params.challenge_window,
        )
        for contract in ("StakeManager", "ComputeRegistry", "DomainRegistry"):
            await self._grant(contract, "NETWORK_ROLE", "PrimeNetwork")
        for contract in ("ComputeRegistry", "RewardsDistributor"):
            await self._grant(contract, "POOL_ROLE", "ComputePool")
        for contract in ("PrimeNetwork", "RewardsDistributor"):
            await self._grant(contract, "SETTLEMENT_ROLE", "ReceiptSettlement")
        return Deployment(
            await self._rpc.chain_id(), dict(at), await self._create_domain(), self._first_block
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

    async def _grant(self, contract: str, role: str, holder: str) -> None:
        data = load_artifact(contract).abi.encode(
            "grantRole", keccak(role.encode()), self._at[holder]
        )
        await self._call(f"{contract}/{role}", contract, data)

    async def _create_domain(self) -> int:
        abi = load_artifact("PrimeNetwork").abi
        data = abi.encode("createDomain", self._params.domain_name, ZERO_ADDRESS, "")
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
