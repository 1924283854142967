"""A node's consent to belong to a provider, as text that a person can carry from one machine to
another.

The node's key signs EIP-712 NodeRegistration(provider, node, nonce, deadline). The text is
`consent1.` and base64url of a JSON object with those, the chain, the contract and the node's
suggested compute units. It holds no secret: it lets that provider register that node, once, until
the deadline, and allows nothing else.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from node.errors import InputError
from proofs.encoding.eip712 import Domain
from proofs.encoding.jsontext import parse_json
from proofs.encoding.receipts import NodeRegistration, Uint32, Uint64, Uint256
from proofs.encoding.signing import Address

PREFIX = "consent1."
MAX_TEXT = 4096
MAX_SECONDS = 30 * 86_400


class Consent(BaseModel):
    """`deadline` is Unix seconds; `signature` is 65 bytes in hex; `contract` is PrimeNetwork."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    chain_id: Uint64
    contract: Address
    provider: Address
    node: Address
    nonce: Uint256
    deadline: Uint64
    compute_units: Annotated[Uint32, Field(ge=1)]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{130}$")]

    @property
    def registration(self) -> NodeRegistration:
        """What was signed."""
        return NodeRegistration(
            provider=self.provider, node=self.node, nonce=self.nonce, deadline=self.deadline
        )

    def to_text(self) -> str:
        """One line to carry to where the provider's key lies."""
        encoded = base64.urlsafe_b64encode(self.model_dump_json().encode())
        return PREFIX + encoded.decode().rstrip("=")

    @classmethod
    def from_text(cls, text: str) -> Consent:
        """Inverse of `to_text`, with the signature checked. Raises `InputError`."""
        text = "".join(text.split())
        if not text.startswith(PREFIX) or len(text) > MAX_TEXT:
            raise InputError("not a consent", "it is one line that begins with consent1.")
        body = text.removeprefix(PREFIX)
        try:
            raw = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            consent = cls.model_validate(parse_json(raw))
        except (binascii.Error, ValidationError, ValueError) as exc:
            raise InputError(
                "not a whole consent", "copy the line again, to its last character"
            ) from exc
        domain = Domain(consent.chain_id, consent.contract)
        signature = bytes.fromhex(consent.signature)
        if not consent.registration.signed_by(consent.node, domain, signature):
            raise InputError("this consent is not signed by its node", "make a new one")
        return consent

    def check(self, provider: str, domain: Domain, now: int) -> None:
        """See that it is for this provider, chain and time. Raises `InputError`."""
        if (self.chain_id, self.contract) != (domain.chain_id, domain.verifying_contract):
            raise InputError("this consent is for another network", "use that network's file")
        if self.provider != provider:
            raise InputError(
                f"this consent is for provider {self.provider}, not for {provider}",
                f"prime-node wallet consent --provider {provider}",
            )
        if self.deadline <= now:
            raise InputError(
                "this consent has expired", "make a new one: prime-node wallet consent"
            )


def make_consent(
    registration: NodeRegistration, secret: bytes, domain: Domain, compute_units: int
) -> Consent:
    """Sign with the node's key."""
    return Consent(
        chain_id=domain.chain_id,
        contract=domain.verifying_contract,
        provider=registration.provider,
        node=registration.node,
        nonce=registration.nonce,
        deadline=registration.deadline,
        compute_units=compute_units,
        signature=registration.sign(secret, domain).hex(),
    )
