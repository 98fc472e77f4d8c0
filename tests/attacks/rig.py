"""A real node — its gate, policy, SQLite ledger and executor — over lanes that only count."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import assent.policy.starter
from assent.bootstrap.node import Blueprint, Node, open_node
from assent.bootstrap.system import SystemClock
from assent.operations.wishes import Wish
from assent.policy.principals import KnownPrincipal
from assent.primitives.ids import TenantId
from assent.testing.lanes import ListJournal, as_lanes, scripted_lanes

T = TypeVar("T")
ACME, GLOBEX = TenantId("acme"), TenantId("globex")
STARTER = (Path(assent.policy.starter.__path__[0]) / "starter.cedar").read_text(encoding="utf-8")
PRINCIPALS = tuple(KnownPrincipal(name=name) for name in ("person:ann", "person:ben", "agent:writer", "service:build"))


class Rig:
    """A node, the loop it lives on, and the marks that its lanes left."""

    def __init__(self, runner: asyncio.Runner, node: Node, journal: ListJournal, workspace: Path) -> None:
        self._runner = runner
        self.node = node
        self.journal = journal
        self.workspace = workspace

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for `work` on the node's own loop."""
        return self._runner.run(work)

    def perform(self, **changes: Any) -> Any:
        """Take a wish through the gate; by default one that the starter policy allows."""
        return self.run(self.node.gate.perform(wish(**changes)))

    def whole(self) -> bool:
        """Whether everything that was recorded verifies."""
        return self.run(self.node.verification.verify(None)).ok

    @property
    def carried(self) -> int:
        """How many orders reached a lane."""
        return len(self.journal.lines())


def wish(**changes: Any) -> Wish:
    """An allowed call, changed."""
    plain: dict[str, Any] = {
        "tenant": ACME, "operation": "files.read", "arguments": {"path": "a"}, "principal": "agent:writer",
        "on_behalf_of": ("person:ann",),
    }  # fmt: skip
    return Wish(**{**plain, **changes})


@contextmanager
def rig(folder: Path, *, tenants: tuple[TenantId, ...] = (ACME,)) -> Iterator[Rig]:
    """A node over an empty workspace, with the starter policy active for every tenant."""
    journal, workspace = ListJournal(), folder / "workspace"
    workspace.mkdir()
    blueprint = Blueprint(data=folder / "data", workspace=workspace, tenants=tenants, principals=PRINCIPALS)
    lanes = as_lanes(scripted_lanes(clock=SystemClock(), journal=journal))
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        node = runner.run(stack.enter_async_context(open_node(blueprint, lanes=lanes)))
        try:
            for tenant in tenants:
                runner.run(node.policies.activate(tenant, STARTER, by="person:ann"))
            yield Rig(runner, node, journal, workspace)
        finally:
            runner.run(stack.aclose())
