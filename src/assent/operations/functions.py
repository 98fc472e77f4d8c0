"""`@assent.operation`: a typed Python function becomes an operation of the node it is given to.

    @assent.operation(effect="read")
    def forecast(city: str, days: int = 3) -> list[str]:
        '''Tell the weather of some days.'''

The function itself stays as it is, and calling it calls it. A node is told which functions it offers
(`Blueprint.functions`); through its gate they are decided about, recorded and carried out like anything else:

- by default in the host's own process, which confines nothing. It runs only where a rule accepts `local-weak`;
- with `confined=True` by its source in the python lane: a sandbox of its own, nothing around it, no network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

import msgspec

from assent.execution.functions import Callee
from assent.ledger.connectors.families.function_calls import FunctionMade
from assent.ledger.connectors.families.functions import Signature, contract_of, signature_of, source_of, unusable
from assent.ledger.connectors.families.names import operation_name
from assent.ledger.contracts import EffectClass, Output

F = TypeVar("F", bound=Callable[..., Any])
Effect = Literal["read", "write", "irreversible"]
_MARK = "__assent_operation__"


class Offered(msgspec.Struct, frozen=True, kw_only=True):
    """A function as it is offered. `callee` is None when it runs confined, by its source."""

    operation: FunctionMade
    callee: Callee | None


def operation(
    *,
    effect: Effect = "irreversible",
    name: str = "",
    idempotent: bool = False,
    confined: bool = False,
    wall_s: int = 0,
    content: Iterable[str] = (),
    outputs: Iterable[Output] = (),
    tells: bool = False,
) -> Callable[[F], F]:
    """Mark a typed function as an operation.

    `effect` is what it does to the world; what is not said counts as irreversible. `name` is `connector.operation`;
    left out, the connector is the last part of the function's module. `idempotent`: calling it twice does what once
    does. `confined`: it runs by its source in a sandbox. `wall_s`: the longest it may take, if less than policy allows.
    `content` are the arguments that are only carried: all others say where or on whom the effect falls, so a third
    party may not choose them unseen. `outputs` say on whose word fields of the result stand, as
    `Output(field="/result/*/id", kind="id", integrity=Integrity.ORG)`;
    whatever none speaks of counts as a third party's. `tells`: the person for whom it is done is told its arguments, so
    they must be for that person to read.

    Raises:
        Malformed: `function_unusable`, `connector_name`.
    """

    def mark(marked: F) -> F:
        chosen = name or f"{_connector(marked)}.{operation_name(getattr(marked, '__name__', ''))}"
        vars(marked)[_MARK] = _offered(
            marked, name=chosen, effect=EffectClass(effect), idempotent=idempotent, confined=confined, wall_s=wall_s,
            content=frozenset(content), outputs=tuple(outputs), tells=tells,
        )  # fmt: skip
        return marked

    return mark


def offered(functions: Iterable[Callable[..., Any]]) -> tuple[Offered, ...]:
    """What marked functions offer.

    Raises:
        Malformed: `function_unusable`: one of them is not marked.
    """
    found = []
    for function in functions:
        one = getattr(function, _MARK, None)
        if not isinstance(one, Offered):
            raise unusable(function, "it is not marked with `@assent.operation`")
        found.append(one)
    return tuple(found)


def _offered(
    function: Callable[..., Any],
    *,
    name: str,
    effect: EffectClass,
    idempotent: bool,
    confined: bool,
    wall_s: int,
    content: frozenset[str],
    outputs: tuple[Output, ...],
    tells: bool,
) -> Offered:
    signature = signature_of(function)
    source = source_of(function) if confined else ""
    contract = contract_of(
        function, signature, name=name, effect=effect, idempotent=idempotent, source=source, content=content,
        outputs=outputs, tells=tells,
    )  # fmt: skip
    made = FunctionMade(contract, function=function.__name__, source=source, wall_ms=wall_s * 1_000)
    callee = None if confined else Callee(definition=contract.definition, call=_called(function, signature))
    return Offered(operation=made, callee=callee)


def _called(function: Callable[..., Any], signature: Signature) -> Callable[[dict[str, Any]], Any]:
    """Call a function with plain JSON values, made into what its types say."""

    def call(arguments: dict[str, Any]) -> Any:  # noqa: ANN401 (whatever it returns)
        return function(**{name: msgspec.convert(value, signature.types[name]) for name, value in arguments.items()})

    return call


def _connector(function: Callable[..., Any]) -> str:
    """A connector's name from the module that a function stands in."""
    last = str(getattr(function, "__module__", "")).rpartition(".")[2]
    return last.strip("_").replace("_", "-").lower() or "functions"
