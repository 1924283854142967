"""Is a deployment what it claims to be?

`verify_deployment` is the quick test that every node makes before it uses the contracts: the right
chain, and this version's code at every address. `check_deployment` is for whoever was handed a
network file: code, addresses, and who may do what, one answer per fact. It also compares what an
administrator could have changed since deployment: functions given to other roles, contracts closed,
roles taken away or bound to a delay. Who else was given a role cannot be read from the chain's
state, only from its events.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from chain.deployment.deployment import Deployment
from chain.deployment.reader import ContractReader
from chain.deployment.wiring import FUNCTIONS, HOLDERS, LABELS, LINKS, MANAGED, selectors
from chain.encoding.artifacts import CONTRACTS, load_artifact
from chain.endpoint.concurrency import for_each
from chain.endpoint.rpc import Rpc
from chain.errors import BadResponse, InvalidDeployment, Reverted, WrongCode


async def verify_deployment(rpc: Rpc, deployment: Deployment) -> None:
    """Check that the chain is the right one and that its code at every address is this version's.

    What constructors choose is not compared; `check_deployment` does that. Raises
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


@dataclass(frozen=True)
class Check:
    """A fact that should hold; `found` says what is there instead, "" where it holds."""

    what: str
    found: str

    @property
    def holds(self) -> bool:
        """Whether the fact is as it should be."""
        return not self.found


async def check_deployment(rpc: Rpc, deployment: Deployment) -> list[Check]:
    """Look at everything; contracts are only asked if their code is right.

    Raises ChainUnreachable and RpcError; what a contract answers wrongly is a check that fails.
    """
    served = await rpc.chain_id()
    checks = [
        Check(f"chain {deployment.chain_id}", _unless(served == deployment.chain_id, str(served)))
    ]

    async def code_of(name: str) -> bytes:
        return await rpc.code(deployment.address(name))

    codes = await for_each(CONTRACTS, code_of)
    for name, code in codes.items():
        found = "" if load_artifact(name).matches(code) else "other code" if code else "no code"
        checks.append(Check(f"{name} has this version's code", found))
    if not all(check.holds for check in checks):
        return checks
    reader = ContractReader(rpc, deployment)
    for what, question in _questions(reader):
        try:
            found = await question()
        except (BadResponse, Reverted) as exc:
            found = str(exc)
        checks.append(Check(what, found))
    return checks


Question = Callable[[], Awaitable[str]]


def _questions(reader: ContractReader) -> list[tuple[str, Question]]:
    """What to ask, and coroutines that answer with what is wrong, "" for nothing."""
    questions: list[tuple[str, Question]] = []
    for contract in dict.fromkeys(contract for contract, _, _ in LINKS):
        questions.append((f"{contract} knows the others", partial(_links, reader, contract)))
    for contract, role, functions in FUNCTIONS:
        what = f"{LABELS[role]} may {', '.join(functions)} on {contract}"
        questions.append((what, partial(_functions, reader, contract, role, functions)))
    for role, holder in HOLDERS.items():
        questions.append((f"{holder} is {LABELS[role]}", partial(_holds, reader, role, holder)))
    for contract in MANAGED:
        questions.append((f"{contract} is open", partial(_open, reader, contract)))
    questions.append(("ReceiptSettlement settles the default domain", partial(_domain, reader)))
    return questions


async def _links(reader: ContractReader, contract: str) -> str:
    for source, getter, target in LINKS:
        if source != contract:
            continue
        found = await reader.read(contract, getter)
        if found != reader.deployment.address(target):
            return f"{getter} is {found}, not {target}"
    return ""


async def _functions(
    reader: ContractReader, contract: str, role: int, functions: tuple[str, ...]
) -> str:
    target = reader.deployment.address(contract)
    for function, selector in zip(functions, selectors(contract, functions), strict=True):
        found = await reader.read("PrimeAccess", "getTargetFunctionRole", target, selector)
        if found != role:
            return f"{function} belongs to role {LABELS.get(found, str(found))}"
    return ""


async def _holds(reader: ContractReader, role: int, holder: str) -> str:
    account = reader.deployment.address(holder)
    found = await reader.read("PrimeAccess", "hasRole", role, account)
    if not found.isMember:
        return "it is not"
    return f"only after {found.executionDelay} s" if found.executionDelay else ""


async def _open(reader: ContractReader, contract: str) -> str:
    target = reader.deployment.address(contract)
    return _unless(not await reader.read("PrimeAccess", "isTargetClosed", target), "it is closed")


async def _domain(reader: ContractReader) -> str:
    domain = await reader.read("DomainRegistry", "domainOf", reader.deployment.default_domain)
    settlement = reader.deployment.address("ReceiptSettlement")
    return _unless(domain.validationLogic == settlement, f"{domain.validationLogic} does")


def _unless(holds: bool, found: str) -> str:
    return "" if holds else found
