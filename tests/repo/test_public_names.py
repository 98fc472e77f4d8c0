"""What a package offers at its top is a promise: a name that comes or goes is decided here, not by accident."""

from __future__ import annotations

import ast

import pytest

from tests.repo.sources import modules, tree

# The whole `__all__` of every package that has one. The others offer their modules and nothing at the top.
PROMISED: dict[str, tuple[str, ...]] = {
    "assent": (
        "Agent",
        "Argument",
        "OperationContract",
        "Output",
        "Session",
        "__version__",
        "achat",
        "chat",
        "operation",
        "starter_policy",
    ),
    "assent.execution.adapters.dialing": (
        "CheckedStream",
        "Dialer",
        "Goal",
        "Notebook",
        "Pins",
        "Resolver",
        "Tunnel",
        "check_listed",
        "system_resolver",
    ),
    "assent.execution.adapters.egress": ("Broker", "EgressLimits"),
    "assent.execution.adapters.files": ("FileLane",),
    "assent.execution.adapters.http": ("HttpLane",),
    "assent.execution.adapters.jsonrpc": ("RpcLane",),
    "assent.execution.adapters.mcp": ("McpLane",),
    "assent.execution.adapters.process": ("ProcessLane",),
    "assent.execution.adapters.secrets": ("SecretDrivers",),
    "assent.execution.adapters.sse": ("SseLane",),
    "assent.execution.adapters.python": ("PythonLane", "SessionRules"),
    "assent.execution.adapters.guest": ("GuestTarget", "Hub", "Authority", "GuestNode", "Membership", "join"),
    "assent.execution.adapters.terminal": ("TerminalLane",),
    "assent.execution.adapters.wasm": ("WasmLane",),
    "assent.execution.adapters.ssh": ("SshTarget", "Access"),
    "assent.execution.adapters.websocket": ("WebSocketLane",),
    "assent.testing.models": ("Called", "Failing", "ModelServer", "Reply", "Seen", "read_replies"),
    "assent.ledger.connectors": ("BUILTIN", "catalogue"),
}

PACKAGES = [name for name, path in modules().items() if path.name == "__init__.py"]


@pytest.mark.parametrize("name", PACKAGES)
def test_package_offers_exactly_what_is_promised(name: str) -> None:
    assert _offered(name) == PROMISED.get(name, ())


@pytest.mark.parametrize("name", [name for name in PACKAGES if name not in PROMISED])
def test_package_without_promises_re_exports_nothing(name: str) -> None:
    """`from assent.ledger.adapters import …` in an `__init__` would hide where things live from import contracts."""
    found = [
        alias.asname or alias.name
        for node in tree(modules()[name]).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("assent")
        for alias in node.names
    ]
    used = {node.id for node in ast.walk(tree(modules()[name])) if isinstance(node, ast.Name)}
    assert set(found) <= used


def _offered(name: str) -> tuple[str, ...]:
    for node in tree(modules()[name]).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            return tuple(ast.literal_eval(node.value))
    return ()
