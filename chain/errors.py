"""Everything that can go wrong with the chain, as types.

All derive from `ChainError`, so a caller that only wants to report can catch one name. The type
says who is at fault: `ChainUnreachable` and `BadResponse` blame the endpoint, `Reverted` the call,
`InvalidInput` the caller, `WrongChain` the configuration. Every message names what to do next.
"""

from __future__ import annotations


class ChainError(Exception):
    """Base of every error raised by this package."""


class InvalidInput(ChainError):
    """The caller passed something that no chain could take (a bad address, too much gas, …)."""


class ChainUnreachable(ChainError):
    """No usable answer came from the endpoint within the deadline."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"chain RPC {url} did not answer ({reason}); check that it runs and can be reached "
            "from here, and the URL: rpc_url in the network file, or --rpc-url"
        )
        self.url = url
        self.reason = reason


class BadResponse(ChainError):
    """The endpoint answered with something that is not what the JSON-RPC method returns."""


class RpcError(ChainError):
    """The endpoint answered with a JSON-RPC error."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method} failed: {message} (JSON-RPC error {code})")
        self.method = method
        self.code = code
        self.message = message


class Reverted(ChainError):
    """A contract refused the call.

    `name` and `args_` are the decoded custom error, `Error` with its string, `Panic` with its code,
    or `""` when the data match no known error; `data` are the raw bytes.
    """

    def __init__(self, name: str, args: tuple[object, ...], data: bytes) -> None:
        shown = f"{name}({', '.join(map(str, args))})" if name else f"0x{data.hex() or '(empty)'}"
        super().__init__(f"the contract reverted with {shown}")
        self.name = name
        self.args_ = args
        self.data = data


class WrongChain(ChainError):
    """The endpoint serves another chain than the database or the deployment was made for."""


class TransactionFailed(ChainError):
    """A transaction was mined, but reverted."""

    def __init__(self, key: str, hash_hex: str) -> None:
        super().__init__(f"transaction {hash_hex} ({key}) was mined but reverted")
        self.key = key
        self.hash_hex = hash_hex


class TransactionDropped(ChainError):
    """A transaction can no longer be mined as it was signed; nothing of it took effect."""


class TransactionPending(ChainError):
    """The caller's deadline passed before the transaction was final; its sender goes on."""


class StoreError(ChainError):
    """The transaction database cannot be used."""


class InvalidDeployment(ChainError):
    """A deployment file is malformed, or the chain does not hold the contracts it names."""


class WrongCode(InvalidDeployment):
    """At a contract's address lies other code than this version's."""

    def __init__(self, contract: str, address: str, url: str) -> None:
        super().__init__(
            f"what is at {address} on {url} is not {contract} of this version; "
            "use the version that deployed it, or deploy again"
        )
        self.contract = contract
        self.address = address


class DevnetError(ChainError):
    """The embedded chain cannot start or serve."""


class PortInUse(DevnetError):
    """Something else listens on the port asked for."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"port {port} on {host} is in use; stop what listens there or choose another port"
        )
        self.port = port


class FaucetRefused(ChainError):
    """The development faucet will not pay this address (again)."""
