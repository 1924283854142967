"""A pool's terms, written into its record on chain, so that everybody reads the same ones.

The pool's `uri` is `prime-terms:` and a JSON object: which model, and by which thresholds its work
is judged (a shipped name, a profile's content id, or `exact:` and the only kernel class that the
pool takes; "" leaves it to each validator). The price of a unit of work (one layer applied to one
token) is a field of its own in the contract.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from node.errors import InputError

SCHEME = "prime-terms:"


class PoolTerms(BaseModel):
    """`model_id` in hex, `model` the name in the orchestrator's store; `thresholds` as above."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    model_id: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    model: Annotated[str, Field(max_length=512)]
    thresholds: Annotated[str, Field(max_length=80, pattern=r"^[0-9a-z:.-]*$")] = ""

    def to_uri(self) -> str:
        """The text for the pool's record."""
        return SCHEME + self.model_dump_json()

    @classmethod
    def from_uri(cls, uri: str) -> PoolTerms:
        """Raises `InputError` for anything that is not a pool's terms."""
        if not uri.startswith(SCHEME):
            raise InputError("the pool's uri holds no terms", "is it a prime-node pool?")
        try:
            return cls.model_validate_json(uri.removeprefix(SCHEME))
        except ValidationError as exc:
            raise InputError(f"the pool's terms are malformed: {exc.errors()[0]['msg']}") from exc
