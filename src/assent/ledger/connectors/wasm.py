"""WebAssembly modules of the workspace: `wasm.run`.

The module is named by its path and by the digest of its bytes, so that what was allowed is what runs, whoever can write
the file. It computes and nothing else, unless it is granted WASI; its files, unless it is granted those.
"""

from __future__ import annotations

import re
from typing import Any, Literal, cast

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import WasmOrder
from assent.ledger.connectors.paths import PATH_BYTES_MAX, escaped, inside, locate, workspace_of
from assent.ledger.connectors.programs import STDIN_BYTES_MAX, WALL_S, limits_of
from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Place
from assent.primitives.errors import Malformed

FUEL = 1_000_000_000
ACCESS = ("none", "read", "write")
_INTEGER = re.compile(r"-?[0-9]{1,20}\Z")
_NAME_BYTES_MAX = 256


class WasmRun(Unobserved):
    """Run one module to its end."""

    contract = OperationContract(
        name="wasm.run",
        summary="run a WebAssembly module of the workspace",
        effect=EffectClass.WRITE,
        idempotency=Idempotency.NONE,
        arguments=(
            Argument(
                name="path",
                kind="text",
                help="the module, relative to the workspace",
                required=True,
                authority=True,
                bytes_max=PATH_BYTES_MAX,
            ),
            Argument(
                name="module",
                kind="text",
                help="the digest of its bytes: `sha256:` and 64 hexadecimal digits",
                required=True,
                authority=True,
                bytes_max=_NAME_BYTES_MAX,
            ),
            Argument(
                name="function",
                kind="text",
                help="the function to call; without one the module is run as a WASI program",
                default="",
                authority=True,
                bytes_max=_NAME_BYTES_MAX,
            ),
            Argument(name="numbers", kind="texts", help="the function's arguments, whole numbers", default=[]),
            Argument(
                name="stdin",
                kind="text",
                help="the standard input of a WASI program",
                default="",
                bytes_max=STDIN_BYTES_MAX,
            ),
            Argument(
                name="imports",
                kind="texts",
                help="the host modules it is granted: `wasi_snapshot_preview1`, or none",
                default=[],
                authority=True,
                bytes_max=_NAME_BYTES_MAX,
            ),
            Argument(
                name="access",
                kind="text",
                help="what a WASI program may do with the workspace: `none`, `read` or `write`",
                default="none",
                authority=True,
                bytes_max=_NAME_BYTES_MAX,
            ),
            Argument(
                name="fuel", kind="integer", help="how much it may compute, about one an instruction", default=FUEL
            ),
            WALL_S,
        ),
        floor=ConfinementClass.NAMESPACED,
    )

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:
        """Where the module lies, and the size of its standard input."""
        given = read_arguments(self.contract, arguments)
        spot = locate(given["path"], place)
        return Facts(path=spot.path, inside_workspace=spot.inside, payload_bytes=len(given["stdin"].encode()))

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,
        obligations: Obligations,
        key: str,  # noqa: ARG002 (the protocol's)
    ) -> WasmOrder:
        """The order for the wasm lane. Modules know no idempotency keys: `key` is not used.

        Raises:
            Malformed: `outside_workspace`, `path_malformed`, `access_malformed`, `number_malformed`, `wall_malformed`,
                `arguments_invalid`.
        """
        given = read_arguments(self.contract, arguments)
        if given["access"] not in ACCESS:
            raise Malformed(
                "access_malformed", f"`{escaped(given['access'])}` is no access", hint=f"use one of {', '.join(ACCESS)}"
            )
        odd = [text for text in given["numbers"] if not _INTEGER.match(text)]
        if odd:
            raise Malformed("number_malformed", f"`{escaped(odd[0])}` is no whole number of 64 bits")
        return WasmOrder(
            workspace=workspace_of(place),
            path=inside(given["path"], place),
            module=given["module"],
            function=given["function"],
            arguments=tuple(map(int, given["numbers"])),
            stdin=given["stdin"].encode(),
            imports=tuple(given["imports"]),
            access=cast('Literal["none", "read", "write"]', given["access"]),
            fuel_max=given["fuel"],
            limits=limits_of(given, obligations.limits),
        )


WASM = (WasmRun(),)
