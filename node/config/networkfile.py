"""The network file: all that a node must be handed to join a network.

    name = "prime"
    bootstrap = ["/ip4/127.0.0.1/tcp/4001/p2p/16Uiu2HAm…"]

    [chain]
    rpc_url = "http://127.0.0.1:8545"
    chain_id = 31337
    faucet_url = "http://127.0.0.1:8545/faucet"      # development chains only

    default_domain = 1
    block = 2

    [chain.contracts]
    PrimeNetwork = "0x…"

    [pool]
    id = 1
    domain = 1
    orchestrator = "0x…"

Whoever makes a part of the network writes its part: `prime-node chain dev` the chain, an
orchestrator its pool and its address as a bootstrap peer. Saving is atomic (a temporary file
renamed over the old one), so a reader never sees half a file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from node.config.files import write_atomically
from node.config.schema import check_keys
from node.config.settings import BootstrapAddress, read_toml
from node.errors import InputError


def _check_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("a URL is like http://127.0.0.1:8545")
    return value


Url = Annotated[str, Field(max_length=2048), AfterValidator(_check_url)]
Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
ContractName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9]{0,63}$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChainTable(_Table):
    """Where the chain is and which contracts on it are this network's.

    `block` is where they were deployed (events start there), `default_domain` the first domain,
    `confirmations` how many blocks deep a fact of the chain must lie, its own included.
    """

    rpc_url: Url
    chain_id: Annotated[int, Field(ge=1, lt=2**63)]
    faucet_url: Url | None = None
    default_domain: Annotated[int, Field(ge=0, lt=2**63)] = 0
    block: Annotated[int, Field(ge=0, lt=2**63)] = 0
    confirmations: Annotated[int, Field(ge=1, le=1024)] = 1
    contracts: Annotated[dict[ContractName, Address], Field(max_length=64)] = {}

    def deployment(self) -> dict[str, Any]:
        """What `chain.deployment.deployment.Deployment.from_dict` reads."""
        return {
            "chain_id": self.chain_id,
            "addresses": dict(self.contracts),
            "default_domain": self.default_domain,
            "block": self.block,
        }


class PoolTable(_Table):
    """The compute pool and who owns it."""

    id: Annotated[int, Field(ge=1, lt=2**63)]
    domain: Annotated[int, Field(ge=0, lt=2**63)]
    orchestrator: Address


class NetworkFile(_Table):
    """The validated content of a network file."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = "prime"
    bootstrap: Annotated[tuple[BootstrapAddress, ...], Field(max_length=256)] = ()
    chain: ChainTable | None = None
    pool: PoolTable | None = None

    @classmethod
    def load(cls, path: Path) -> NetworkFile:
        """Read and validate. Raises `InputError` naming the file and the key."""
        data = read_toml(path)
        check_keys(cls, data, str(path))
        try:
            return cls.model_validate(data)
        except ValidationError as exc:
            first = exc.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            reason = str(first["msg"]).removeprefix("Value error, ")
            raise InputError(f"{path}: {key}: {reason}") from exc

    @classmethod
    def load_or_new(cls, path: Path) -> NetworkFile:
        """As `load`; an empty network where there is no file yet."""
        return cls.load(path) if path.exists() else cls()

    def save(self, path: Path) -> None:
        """Write atomically; makes the folder. Raises `InputError` when it cannot be written."""
        import tomli_w

        tables: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        write_atomically(path, tomli_w.dumps(tables).encode())

    def updated(self, **tables: Any) -> NetworkFile:
        """A copy with the given tables replaced, validated anew."""
        return NetworkFile.model_validate({**self.model_dump(), **tables})
