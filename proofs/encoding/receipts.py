"""The typed messages that the contracts check, as frozen, range-checked models.

Field order and types equal the Solidity structs; Python names are snake_case. A receipt says that
`worker` served stage `stage` of job `job_id` for `units` units of work; the worker signs it and so
does its downstream neighbour, the `counterparty`. `commitment` binds the stage's evidence
(`proofs.evidence.statement.evidence_commitment`), so a paid receipt can be held against its
proofs later.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from proofs.encoding.eip712 import Domain, EncodingError, StructType, unword, word
from proofs.encoding.signing import Address, SigningError, sign_digest, signed_by

Bytes32 = Annotated[bytes, Field(min_length=32, max_length=32)]
Uint32 = Annotated[int, Field(ge=0, lt=2**32)]
Uint64 = Annotated[int, Field(ge=0, lt=2**64)]
Uint128 = Annotated[int, Field(ge=0, lt=2**128)]
Uint256 = Annotated[int, Field(ge=0, lt=2**256)]


class TypedMessage(BaseModel):
    """Base of the EIP-712 messages; fields are declared in the order of `STRUCT`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    STRUCT: ClassVar[StructType]

    def struct_hash(self) -> bytes:
        """EIP-712 hashStruct, 32 bytes."""
        return self.STRUCT.hash([getattr(self, name) for name in type(self).model_fields])

    def to_bytes(self) -> bytes:
        """`abi.encode` of the fields: one 32-byte word each."""
        kinds = (kind for kind, _ in self.STRUCT.fields)
        values = (getattr(self, name) for name in type(self).model_fields)
        return b"".join(word(kind, value) for kind, value in zip(kinds, values, strict=True))

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Inverse of `to_bytes`. Raises EncodingError for any other bytes."""
        fields = cls.STRUCT.fields
        if len(data) != 32 * len(fields):
            raise EncodingError(f"{cls.__name__} has {32 * len(fields)} bytes, not {len(data)}")
        words = (data[start : start + 32] for start in range(0, len(data), 32))
        values = [unword(kind, part) for (kind, _), part in zip(fields, words, strict=True)]
        return cls.model_validate(dict(zip(cls.model_fields, values, strict=True)))

    def digest(self, domain: Domain) -> bytes:
        """The 32 bytes that are signed for `domain`."""
        return domain.digest(self.struct_hash())

    def sign(self, private_key: bytes, domain: Domain) -> bytes:
        """65-byte signature. Raises SigningError for an unusable key."""
        return sign_digest(private_key, self.digest(domain))

    def signed_by(self, address: str, domain: Domain, signature: bytes) -> bool:
        """Whether `address` made `signature`; False for malformed signatures too."""
        return signed_by(address, self.digest(domain), signature)


class Receipt(TypedMessage):
    """Work of one stage; signed by `worker` and `counterparty`."""

    STRUCT = StructType(
        "Receipt",
        (
            ("bytes32", "jobId"),
            ("address", "worker"),
            ("uint256", "poolId"),
            ("uint32", "stage"),
            ("uint32", "seq"),
            ("address", "counterparty"),
            ("uint64", "epoch"),
            ("uint128", "units"),
            ("bytes32", "commitment"),
        ),
    )

    job_id: Bytes32
    worker: Address
    pool_id: Uint256
    stage: Uint32
    seq: Uint32
    counterparty: Address
    epoch: Uint64
    units: Uint128
    commitment: Bytes32


def _receipt_from(value: object) -> object:
    if not isinstance(value, bytes):
        return value
    try:
        return Receipt.from_bytes(value)
    except (EncodingError, SigningError) as exc:
        raise ValueError(str(exc)) from exc  # pydantic collects ValueErrors


EncodedReceipt = Annotated[
    Receipt, BeforeValidator(_receipt_from), PlainSerializer(lambda receipt: receipt.to_bytes())
]
"""A receipt inside another message: its ABI bytes."""


class EpochRoot(TypedMessage):
    """What validators sign for one epoch of a pool. Payouts and their total are cumulative.

    `rate` is wei of the token a unit, `total_units` the epoch's own units.
    """

    STRUCT = StructType(
        "EpochRoot",
        (
            ("uint256", "poolId"),
            ("uint64", "epoch"),
            ("bytes32", "receiptsRoot"),
            ("bytes32", "payoutsRoot"),
            ("uint64", "receiptCount"),
            ("uint128", "totalUnits"),
            ("uint128", "rate"),
            ("uint128", "totalPayout"),
            ("bytes32", "dataHash"),
        ),
    )

    pool_id: Uint256
    epoch: Uint64
    receipts_root: Bytes32
    payouts_root: Bytes32
    receipt_count: Uint64
    total_units: Uint128
    rate: Uint128
    total_payout: Uint128
    data_hash: Bytes32

    @property
    def previous_total(self) -> int:
        """The total payout of the epoch before, wei."""
        return self.total_payout - self.total_units * self.rate


class Conviction(TypedMessage):
    """Validators' finding that `node` cheated in unit `job_id`; `evidence` is its bundle's id."""

    STRUCT = StructType(
        "Conviction",
        (
            ("uint256", "poolId"),
            ("address", "node"),
            ("bytes32", "jobId"),
            ("bytes32", "evidence"),
        ),
    )

    pool_id: Uint256
    node: Address
    job_id: Bytes32
    evidence: Bytes32


class NodeRegistration(TypedMessage):
    """A node's consent to belong to a provider; signed by `node`."""

    STRUCT = StructType(
        "NodeRegistration",
        (
            ("address", "provider"),
            ("address", "node"),
            ("uint256", "nonce"),
            ("uint256", "deadline"),
        ),
    )

    provider: Address
    node: Address
    nonce: Uint256
    deadline: Uint256


class PoolInvite(TypedMessage):
    """A pool's consent to let a node in until `deadline` (Unix s); signed by the pool's inviter."""

    STRUCT = StructType(
        "PoolInvite",
        (("uint256", "poolId"), ("address", "node"), ("uint256", "nonce"), ("uint256", "deadline")),
    )

    pool_id: Uint256
    node: Address
    nonce: Uint256
    deadline: Uint256
