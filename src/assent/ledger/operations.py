"""Operations: a contract together with the pure functions that turn an intent into facts, an order and a judgement."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Protocol, runtime_checkable

import msgspec

from assent.execution.obligations import Obligations
from assent.execution.orders import Order
from assent.execution.outcomes import Ending, Outcome
from assent.ledger.contracts import OperationContract
from assent.primitives.labels import STRENGTH, Integrity


class Place(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where operations act: the absolute path of the workspace on this host, and for whom (empty: not said).

    `contents` are the pieces that the arguments name by digest, as far as they are there.
    """

    workspace: str
    tenant: str = ""
    contents: Mapping[str, bytes] = {}


class Facts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What policy may look at, computed from the arguments and never declared by the asker.

    `path` is normalised and relative to the workspace when `inside_workspace`, else as it was written; `host` is
    `host:port` in canonical form; `method` an upper-case HTTP method; `program` the base name of what is run when it is
    one of the system's own programs, else its whole absolute path (a file the agent wrote borrows no trusted name);
    `payload_bytes` the size of what is sent or written; `target` the target that is asked for (empty: any).

    The rest comes from the call's provenance (`policy.flow`) and from no connector: how far what its asker had seen,
    and the weakest of the arguments that say where the effect falls, can be trusted (`labels.STRENGTH`); which
    arguments a third party may have written; whether whoever receives them may read them; whether it goes beyond what
    was asked for. And how often the asker was let do this before and how much of its budgets is gone (`ledger.rates`),
    where a rule asks for that.
    """

    path: str = ""
    inside_workspace: bool = True
    host: str = ""
    method: str = ""
    program: str = ""
    target: str = ""
    payload_bytes: int = 0
    integrity: int = STRENGTH[Integrity.USER]
    authority_integrity: int = STRENGTH[Integrity.USER]
    untrusted: tuple[str, ...] = ()
    readers_permit: bool = True
    beyond_mandate: bool = False
    calls_in_run: int = 0
    calls_this_hour: int = 0
    calls_today: int = 0
    budget_used: int = 0

    def told(self) -> dict[str, Any]:
        """What is not as it is when nothing is said."""
        usual = Facts()
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {name: value for name, value in found.items() if value != getattr(usual, name)}


class Judgement(StrEnum):
    """What an observation says about an effect whose outcome is unknown."""

    HAPPENED = "happened"
    NOT_HAPPENED = "not_happened"
    UNCLEAR = "unclear"


class Operation(Protocol):
    """One operation of a connector. Every method is pure and raises only `Malformed`."""

    contract: OperationContract

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """Compute what policy may look at."""
        ...

    def plan(self, arguments: dict[str, Any], place: Place, obligations: Obligations, key: str) -> Order:
        """Make the exact order. `key` is sent along where the target understands idempotency keys."""
        ...

    def observation(self, arguments: dict[str, Any]) -> dict[str, Any] | None:
        """Arguments for the observer operation that can tell whether this call happened, or None."""
        ...

    def judge(self, arguments: dict[str, Any], observed_code: str, observed: dict[str, Any]) -> Judgement:
        """Read the observer's result (its outcome code and value)."""
        ...


@runtime_checkable
class Reads(Protocol):
    """An operation that knows more about its answers than the lane: some protocols say no in an answer that arrived
    well. Pure."""

    def read(self, outcome: Outcome) -> Outcome:
        """Judge an outcome that the lane calls a success. It can only lower it, and may say the value more plainly."""
        ...


@runtime_checkable
class Explains(Protocol):
    """An operation that knows what an answer means that the lane calls a failure. Pure."""

    def explain(self, outcome: Outcome) -> dict[str, Any]:
        """The value to put on record in place of the lane's. The ending, the code and the evidence stand."""
        ...


Reading = Callable[[Outcome], Outcome]


def reading_of(operation: Operation) -> Reading:
    """How outcomes of `operation` are read before they are settled."""
    if not _judges(type(operation)):
        return as_it_is
    return lambda outcome: _read(operation, outcome)


@cache
def _judges(kind: type) -> bool:
    """Asked at every call, and slow to find out: each class of operations is looked at once."""
    return issubclass(kind, Reads | Explains)


def as_it_is(outcome: Outcome) -> Outcome:
    """The outcome as the lane judged it."""
    return outcome


def _read(operation: object, outcome: Outcome) -> Outcome:
    """What an operation reads into an outcome. What did not succeed stands, the evidence stands, and a reading that
    breaks leaves the outcome unknown: the lane did what it was told, and nobody can say what was answered."""
    succeeded = outcome.ending is Ending.SUCCEEDED
    try:
        if succeeded and isinstance(operation, Reads):
            return msgspec.structs.replace(operation.read(outcome), evidence=outcome.evidence)
        if not succeeded and isinstance(operation, Explains):
            return msgspec.structs.replace(outcome, value=operation.explain(outcome))
    except Exception as fault:  # noqa: BLE001 (an answer comes from anywhere; whatever it holds must not lose the receipt)
        message = f"the answer could not be read: {type(fault).__name__}"
        if not succeeded:
            return outcome
        return msgspec.structs.replace(outcome, ending=Ending.UNKNOWN, code="answer_unread", message=message)
    return outcome
