"""A process that is warm: it has everything imported, and forks a life whenever it is told to.

A line of JSON on standard input is one life, which a fork of this process leads until it is done or dies by SIGKILL;
the line that answers says how it ended and what it had said by then. Nothing is open in the parent when it forks, no
thread runs and no loop, so a life begins as any process does that has just read its program. What a life says it
writes to a file, which needs nobody to read it.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from assent.bootstrap.models import wire_of
from assent.bootstrap.node import Node
from assent.ledger.adapters.sqlite import SqliteLedger
from assent.ledger.adapters.sqlite_log import LogBook
from assent.ledger.commands import Command
from assent.operations.models import Endpoint, ModelOperation
from assent.operations.runs.events import RunEvent
from assent.primitives.ids import EffectId
from assent.testing.faults import die
from assent.testing.models import Called, ModelServer, Reply
from tests.crash.run_child import COMMITS, WRITER
from tests.operations.agents_house import ANN, TENANT, house

LIFE_S = 60
LOOKS_MAX = 4
ENDPOINTS = ("far", "near")


class Places:
    """Counts the places of one life at which it may die, and dies at the one that it was given.

    `before` and `after` are the two sides of a commit, `mid` is between: written, and not committed. `told` is an event
    that whoever watches is told, in the middle of an answer too.
    """

    def __init__(self, side: str, at: int) -> None:
        self._side, self._at = side, at
        self.seen: Counter[str] = Counter()

    def reached(self, side: str) -> None:
        self.seen[side] += 1
        if side == self._side and self.seen[side] == self._at:
            die()

    def watch(self) -> None:
        """From now on. This process does nothing else, so nothing has to be put back."""
        apply, flush = SqliteLedger.apply, LogBook.flush

        async def applied(ledger: SqliteLedger, command: Command) -> Any:
            counts = isinstance(command, COMMITS)
            if counts:
                self.reached("before")
            result = await apply(ledger, command)
            if counts:
                self.reached("after")
            return result

        def flushed(book: LogBook) -> None:
            flush(book)
            self.reached("mid")

        SqliteLedger.apply = applied  # type: ignore[method-assign,assignment]
        LogBook.flush = flushed  # type: ignore[method-assign,assignment]

    def told(self, _: RunEvent) -> None:
        self.reached("told")


def models(plan: dict[str, Any]) -> list[ModelOperation]:
    """The endpoints of the plan's server."""
    return [
        ModelOperation(Endpoint(name=name, url=f"{plan['url']}/{name}"), wire=partial(wire_of, plan["wire"]))
        for name in ENDPOINTS
    ]


def added_by(arguments: dict[str, Any]) -> str:
    """The line that a call adds to the log: one that appends, or a program's."""
    return str(arguments["content"] if "content" in arguments else arguments["argv"][2].split()[1]).strip()


async def driven(node: Node, plan: dict[str, Any], places: Places) -> dict[str, Any]:
    """Begin the run, or the one that was begun, and carry it to its end; a person looks where only one can."""
    session = await node.sessions.open(TENANT, agent="writer", identity=ANN, channel="cli", name=plan["wire"])
    writer = replace(WRITER, models=tuple(f"{name}:it" for name in ENDPOINTS))
    run = await node.runs.begin(TENANT, writer, "work", by=ANN, session=session, key="the task")
    seen = await node.runs.drive(TENANT, run, tell=places.told)
    looks = 0
    while seen.waits_for.startswith("unknown") and looks < LOOKS_MAX:
        looks += 1
        effect = EffectId(seen.waits_for.split()[1])
        about = await node.timelines.explain(TENANT, effect)
        assert about.intent, "nothing was erased"
        log = (Path(plan["folder"]) / "workspace" / "log.txt").read_text()
        happened = added_by(about.intent.arguments) in log.splitlines()
        await node.recovery.attest(TENANT, effect, happened=happened, by=ANN, reason="looked")
        seen = await node.runs.drive(TENANT, run, tell=places.told)
    places_seen = dict(places.seen)
    retold = await node.runs.retell(TENANT, run)
    effects = await node.gate._store.effects(TENANT, run=run, limit=1_000)
    return {
        "places": places_seen, "state": seen.state, "text": seen.text, "waits_for": seen.waits_for, "looks": looks,
        "words": [list(pair) for pair in retold.words], "same": retold.same,
        "effects": [[one.key, one.operation, one.state, one.code] for one in effects],
        "faults": [str(one) for one in (await node.verification.verify(TENANT)).faults],
        "runs": await node.runs.ids(TENANT),
    }  # fmt: skip


async def life(plan: dict[str, Any]) -> None:
    folder = Path(plan["folder"])
    places = Places(plan["side"], plan["at"])
    async with house(folder, WRITER, others=models(plan), policy="") as node:
        places.watch()
        found = await driven(node, plan, places)
    (folder / "said").write_text(json.dumps(found))


def forked(body: Callable[[], None], report: Path) -> int:
    """Lead a life in a fork; how it ended."""
    assert threading.active_count() == 1, "a fork has one thread, so its parent may have no other"
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    code = 1
    try:
        signal.alarm(LIFE_S)
        with report.open("w") as errors:
            os.dup2(errors.fileno(), 2)
        body()
        code = 0
    except BaseException:  # noqa: BLE001 (it is told, and the fork must not go on as its parent does)
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
    finally:
        os._exit(code)


def warm(folder: Path) -> Path:
    """Import what is imported when it is used, and test this machine's sandboxes once: nodes keep what came of that.
    Returns the data of a node that has a policy and has done nothing."""
    (folder / "workspace").mkdir()

    async def body(wire: str) -> None:
        calls = (Called(name="shell_run", arguments={"argv": ["true"]}), Called(name="todo", arguments={"items": []}))
        async with ModelServer([Reply(calls=calls), Reply(text="done")], key="") as server:
            plan = {"folder": str(folder), "url": server.url, "wire": wire}
            async with house(folder, WRITER, others=models(plan)) as node:
                await driven(node, plan, Places("", 0))

    for wire in ("anthropic", "openai", "openai-chat", "gemini", "ollama"):
        asyncio.run(body(wire))
    fresh = folder / "fresh"
    shutil.copytree(folder / "data" / "sandbox", fresh / "data" / "sandbox")
    asyncio.run(opened(fresh))
    return fresh / "data"


async def opened(folder: Path) -> None:
    async with house(folder, WRITER):
        pass


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        fresh = warm(Path(temporary).resolve())
        gc.collect()
        gc.freeze()  # what is there already is the parent's: no life need look through it, or copy it
        for line in sys.stdin:
            plan = json.loads(line)
            folder = Path(plan["folder"])
            if not (folder / "data").exists():
                shutil.copytree(fresh, folder / "data")
            said, report = folder / "said", folder / "report"
            said.unlink(missing_ok=True)
            ended = forked(lambda plan=plan: asyncio.run(life(plan)), report)  # type: ignore[misc]
            found = json.loads(said.read_text()) if said.exists() else {}
            print(json.dumps({"ended": ended, "report": report.read_text(), "found": found}), flush=True)


if __name__ == "__main__":
    main()
