"""A process that drives a run and dies at a commit. One JSON argument: the folder, the run, and where to die.

It counts the commits that a run makes: accepts, settles, and notes of journals. It prints the run, and how it stands.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from assent.bootstrap.node import Node
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.commands import Accept, Command, Dispatch, Judge, Settle, WriteNotes
from assent.testing.faults import die
from tests.operations.agents_house import ANN, TENANT, agent, house, line

COMMITS = (Accept, Settle, Dispatch, Judge, WriteNotes)
APPEND = "files.append"
WRITER = agent("write", APPEND, "read", "shell.run", "todo", "list", name="writer")
LINES = [
    line("I begin", ("write", {"path": "log.txt", "content": "start\n"})),
    line("", ("files_append", {"path": "log.txt", "content": "one\n"})),
    line("", ("read", {"path": "log.txt"}), ("list", {"path": "."})),
    line("", ("shell_run", {"argv": ["sh", "-c", "echo two >> log.txt"]})),
    line("", ("todo", {"items": [{"text": "go on"}]})),
    line("", ("files_append", {"path": "log.txt", "content": "three\n"})),
    line("", ("write", {"path": "../outside.txt", "content": "never"})),
    line("", ("shell_run", {"argv": ["sh", "-c", "echo four >> log.txt; echo said"]})),
    line("", ("read", {"path": "log.txt"})),
    line("all is done"),
]
WRITTEN = "start\none\ntwo\nthree\nfour\n"


def say(**fields: Any) -> None:
    print(json.dumps(fields), flush=True)


def dies(*, before: bool, at: int) -> None:
    """Have this process die before or after its `at`-th commit from now on (0: never)."""
    apply, left = SqliteLedger.apply, at

    async def counted(self: SqliteLedger, command: Command) -> Any:
        nonlocal left
        counts = isinstance(command, COMMITS)
        left -= counts
        last = counts and left == 0
        if last and before:
            die()
        result = await apply(self, command)
        if last:
            die()
        return result

    SqliteLedger.apply = counted  # type: ignore[method-assign]


async def drive(node: Node, run: str, *, before: bool, at: int) -> None:
    dies(before=before, at=at)
    if not run:
        session = await node.sessions.open(TENANT, agent="writer", identity=ANN, channel="cli", name="main")
        run = await node.runs.begin(TENANT, WRITER, "work", by=ANN, session=session, key="the task")
    say(run=run)
    seen = await node.runs.drive(TENANT, run)
    say(run=run, state=seen.state, text=seen.text, waits_for=seen.waits_for)


async def main(plan: dict[str, Any]) -> None:
    async with house(Path(plan["folder"]), WRITER, lines=LINES) as node:
        await drive(node, plan["run"], before=plan["before"], at=plan["at"])


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
