"""What a typed Python function is as an operation: its contract, from its signature and its docstring. Pure.

Each parameter is an argument; its type is what the value must be, as msgspec reads types: the builtins, `Literal`,
unions, dataclasses, typed dicts, Structs, and lists and dicts of them. The text of the docstring is the author's own.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import typing
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import msgspec

from assent.execution.attestations import ConfinementClass
from assent.ledger.connectors.families.documents import Pointers
from assent.ledger.connectors.families.entries import argument
from assent.ledger.connectors.families.names import check_connector, is_argument, is_operation, told
from assent.ledger.connectors.families.reductions import reduce
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, Output
from assent.primitives.canonical import canonical
from assent.primitives.digests import digest
from assent.primitives.errors import Malformed

SOURCE_BYTES_MAX = 262_144

_ARGUMENT_LINE = re.compile(r"\s+(\w+)(?: \([^)]*\))?: (.+)")
_REF = "#/$defs/{name}"


class Signature(NamedTuple):
    """A function's parameters: their arguments, and their types."""

    arguments: tuple[Argument, ...]
    types: Mapping[str, Any]


def contract_of(
    function: Callable[..., Any],
    signature: Signature,
    *,
    name: str,
    effect: EffectClass,
    idempotent: bool,
    source: str,
    content: Collection[str] = (),
    outputs: tuple[Output, ...] = (),
    tells: bool = False,
) -> OperationContract:
    """The contract of a function. With `source` it will run confined, so it needs no weak floor. Arguments among
    `content` are only carried and say nothing about where the effect falls.

    Raises:
        Malformed: `function_unusable`.
    """
    connector, _, own = name.partition(".")
    check_connector(connector)
    if not is_operation(own):
        raise unusable(function, f"`{name[:80]!a}` cannot be the name of an operation")
    unknown = sorted(set(content).difference(argument.name for argument in signature.arguments))
    if unknown:
        raise unusable(function, f"it takes no `{unknown[0][:80]}`")
    arguments = tuple(
        msgspec.structs.replace(argument, authority=argument.name not in content) for argument in signature.arguments
    )
    natural = idempotent or effect is EffectClass.READ
    contract = OperationContract(
        name=name,
        summary=told((inspect.getdoc(function) or "").partition("\n\n")[0]) or name,
        effect=effect,
        idempotency=Idempotency.NATURAL if natural else Idempotency.NONE,
        arguments=arguments,
        outputs=outputs,
        tells=tells,
        floor=ConfinementClass.NAMESPACED if source else ConfinementClass.LOCAL_WEAK,
    )
    fields = msgspec.to_builtins(contract)
    for later in ("outputs", "tells"):
        if not fields[later]:
            del fields[later]  # which were not always there
    made = canonical({"contract": fields, "source": source or _text_of(function)})
    return msgspec.structs.replace(contract, definition=digest(made))


def signature_of(function: Callable[..., Any]) -> Signature:
    """Read the parameters of a function.

    Raises:
        Malformed: `function_unusable`: a parameter has no type that JSON can carry, or takes any number of values.
    """
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # evaluating a stranger's annotations may raise anything
        raise unusable(function, f"its types cannot be read ({type(error).__name__})") from error
    helps = _helps(inspect.getdoc(function) or "")
    arguments, types = [], {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) or not is_argument(name):
            raise unusable(function, f"its parameter `{name}` cannot be given by name")
        if name not in hints:
            raise unusable(function, f"its parameter `{name}` has no type")
        arguments.append(_argument(function, parameter, hints[name], helps.get(name, "")))
        types[name] = hints[name]
    return Signature(tuple(arguments), types)


def source_of(function: Callable[..., Any]) -> str:
    """The source of a function, without what decorates it: it must stand alone.

    Raises:
        Malformed: `function_unusable`.
    """
    text = _text_of(function)
    try:
        (found,) = ast.parse(text).body
    except (SyntaxError, ValueError) as error:
        raise unusable(function, "its source cannot be read, and it runs confined by its source") from error
    if not isinstance(found, ast.FunctionDef) or inspect.getclosurevars(function).nonlocals:
        raise unusable(function, "it runs confined, so it must be a plain function that needs nothing around it")
    found.decorator_list = []
    source = f"from __future__ import annotations\n{ast.unparse(found)}\n"
    if len(source.encode()) > SOURCE_BYTES_MAX:
        raise unusable(function, f"its source is larger than {SOURCE_BYTES_MAX} bytes")
    return source


def unusable(function: Callable[..., Any], why: str) -> Malformed:
    """The error for a function that cannot be an operation."""
    name = getattr(function, "__qualname__", type(function).__name__)
    return Malformed("function_unusable", f"`{str(name)[:80]}` cannot be an operation: {why}")


def _argument(function: Callable[..., Any], parameter: inspect.Parameter, hint: Any, about: str) -> Argument:  # noqa: ANN401
    try:
        (schema,), components = msgspec.json.schema_components([hint], ref_template=_REF)
    except (TypeError, ValueError) as error:
        raise unusable(function, f"the type of `{parameter.name}` has no JSON form") from error
    reduced = reduce(schema, Pointers({"$defs": dict(components)}))
    about = about or schema.get("description", "")
    needed = parameter.default is parameter.empty
    made = argument(parameter.name, reduced, about=about, required=needed, authority=True)
    if needed or parameter.default is None:
        return made
    try:
        default = msgspec.to_builtins(parameter.default)
        canonical(default)
    except (TypeError, Malformed) as error:
        raise unusable(function, f"the default of `{parameter.name}` has no JSON form") from error
    return msgspec.structs.replace(made, default=default)


def _helps(doc: str) -> dict[str, str]:
    """What a docstring in Google's style says of each parameter."""
    found: dict[str, str] = {}
    inside = False
    for line in doc.splitlines():
        if not line.startswith(" ") and line.strip():
            inside = line.strip() in ("Args:", "Arguments:", "Parameters:")
        matched = _ARGUMENT_LINE.match(line) if inside else None
        if matched:
            found[matched[1]] = matched[2]
    return found


def _text_of(function: Callable[..., Any]) -> str:
    """The text of a function, or what names it where no text is kept."""
    try:
        return textwrap.dedent(inspect.getsource(function))
    except (OSError, TypeError):
        return f"{function.__module__}.{function.__qualname__}{inspect.signature(function)}"
