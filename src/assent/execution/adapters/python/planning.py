"""From an order to what a worker is sent. Everything that can be refused without touching the host is refused here."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import msgspec

from assent.execution.adapters.sandboxes.image import check_order
from assent.execution.adapters.sandboxes.talks import requested
from assent.execution.orders import ProcessOrder, PythonOrder
from assent.primitives.errors import Malformed

SOURCE_BYTES_MAX = 1_048_576
ARGUMENTS_BYTES_MAX = 1_048_576
PRELOAD_MAX = 32
_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}\Z")
_ARGUMENTS_DEPTH_MAX = 64

# What nearly every program imports; done once, in the zygote.
STANDARD = (
    "asyncio", "base64", "bisect", "collections", "contextlib", "copy", "csv", "dataclasses", "datetime", "decimal",
    "enum", "fractions", "functools", "hashlib", "heapq", "io", "itertools", "json", "math", "operator", "pathlib",
    "random", "re", "shutil", "statistics", "string", "subprocess", "tempfile", "textwrap", "time", "traceback",
    "types", "typing", "uuid",
)  # fmt: skip


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What an order comes to: the sandbox (`program`), what its zygote has imported, and the request.

    The program carries no environment of the order's: that goes with the request, so that a sandbox that was built
    before can serve it.
    """

    program: ProcessOrder
    imports: tuple[str, ...]
    request: bytes


def planned(order: PythonOrder, *, preloadable: Collection[str]) -> Plan:
    """Check an order whole.

    Raises:
        Malformed: `order_malformed`.
    """
    program = ProcessOrder(
        argv=("python",),
        workspace=order.workspace,
        workspace_writable=order.workspace_writable,
        hosts=order.hosts,
        env=order.env,
        limits=order.limits,
    )
    check_order(program)
    program = msgspec.structs.replace(program, env={})
    if order.hosts and order.session:  # its broker would outlive the call that was allowed to use it
        raise Malformed("order_malformed", "a session reaches no hosts", hint="reach them in a call with fresh state")
    _check_source(order)
    arguments = _arguments(order.arguments)
    _check_names(order)
    warm = sorted(name for name in order.preload if name in preloadable)
    request = requested(
        program, source=order.source, function=order.function, arguments=arguments, preload=order.preload,
        env=order.env, reprs=order.reprs, last=not order.session,
    )  # fmt: skip
    return Plan(program=program, imports=(*STANDARD, *warm), request=request)


def _check_source(order: PythonOrder) -> None:
    try:
        size = len(order.source.encode())
    except UnicodeEncodeError as error:
        raise Malformed("order_malformed", "the source is not valid Unicode") from error
    if size > SOURCE_BYTES_MAX:
        raise Malformed(
            "order_malformed", f"the source has {size} bytes, of at most {SOURCE_BYTES_MAX}", hint="keep data in files"
        )
    if "\0" in order.source:
        raise Malformed("order_malformed", "the source holds a NUL character")
    if not order.source.strip() and not order.function:
        raise Malformed("order_malformed", "the source is empty", hint="give an expression, or name a function")


def _arguments(text: str) -> dict[str, Any]:
    if len(text) > ARGUMENTS_BYTES_MAX:
        raise Malformed("order_malformed", f"the arguments are larger than {ARGUMENTS_BYTES_MAX} bytes")
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise Malformed("order_malformed", "the arguments are no JSON text") from error
    if not isinstance(found, dict) or _deeper(found, _ARGUMENTS_DEPTH_MAX):
        raise Malformed("order_malformed", f"the arguments are no JSON object of at most {_ARGUMENTS_DEPTH_MAX} levels")
    return found


def _deeper(value: Any, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner)


def _check_names(order: PythonOrder) -> None:
    if order.function and not order.function.isidentifier():
        raise Malformed("order_malformed", f"`{order.function[:100]}` is no name of a function")
    if len(order.preload) > PRELOAD_MAX:
        raise Malformed("order_malformed", f"more than {PRELOAD_MAX} modules to load")
    odd = [name for name in order.preload if not all(part.isidentifier() for part in name.split("."))]
    if odd:
        raise Malformed("order_malformed", f"`{odd[0][:100]}` is no name of a module")
    if order.session and not _SESSION.match(order.session):
        raise Malformed(
            "order_malformed", f"`{order.session[:100]!r}` cannot name a session",
            hint="use up to 64 letters, digits, dots, hyphens, colons and underscores",
        )  # fmt: skip
    if order.restart and not order.session:
        raise Malformed("order_malformed", "there is no session to restart", hint="name one")
