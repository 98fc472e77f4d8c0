"""DBOS on SQLite doing the work of a governed no-op call, as fast as its own means allow.

Durable accept (470 bytes of input in the workflow's row), a trivial effect, durable outcome (140 bytes). The engine is
passed in: WAL, synchronous=FULL, and as many pooled connections as measured fastest (a waiting thread then sleeps in
the pool instead of in SQLite's busy handler). Tracing is off, logging errors only. Four forms: synchronous or
asynchronous, with the effect in a step (DBOS's own advice, a third commit) or in the workflow's body (two commits).
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import sqlalchemy  # type: ignore[import-not-found] # (lives in the yardsticks' environment)
from dbos import DBOS, DBOSConfig, SetWorkflowID

from benchmarks.serving import serve
from benchmarks.windows import Window, by_tasks, by_threads

CONNECTIONS = 2
INTENT, OUTCOME = "x" * 470, "y" * 140
_numbers = itertools.count(1)


def effect(intent: str) -> str:
    """Do nothing, and say so."""
    return OUTCOME if intent else ""


async def effect_async(intent: str) -> str:
    """Do nothing, and say so."""
    return OUTCOME if intent else ""


step: Any = DBOS.step()(effect)
step_async: Any = DBOS.step()(effect_async)


def stepped(intent: str) -> Any:
    """A workflow with the effect in a step."""
    return step(intent)


async def stepped_async(intent: str) -> Any:
    """The same, asynchronous."""
    return await step_async(intent)


def body(intent: str) -> str:
    """A workflow that is its effect."""
    return effect(intent)


async def body_async(intent: str) -> str:
    """The same, asynchronous."""
    return await effect_async(intent)


def workflow(function: Any) -> Any:
    """Let DBOS record the function's input and output."""
    return DBOS.workflow()(function)


def main() -> None:
    """Serve windows on a database in the folder that is the argument."""
    path = Path(sys.argv[1]) / "dbos.db"
    config: DBOSConfig = {
        "name": "yardstick", "system_database_engine": _engine(path), "application_version": "1",
        "log_level": "ERROR", "console_log_level": "ERROR",
    }  # fmt: skip
    DBOS(config=config)
    workflows = {function: workflow(function) for function in (body, stepped, body_async, stepped_async)}
    DBOS.launch()
    with asyncio.Runner() as runner:

        def threads(form: Any) -> Any:
            return lambda callers, seconds: by_threads(lambda: _named(form), callers=callers, seconds=seconds)

        def tasks(form: Any) -> Any:
            return lambda callers, seconds: runner.run(_tasks(form, callers, seconds))

        serve(
            {
                "sync, body": threads(workflows[body]),
                "sync, step": threads(workflows[stepped]),
                "async, body": tasks(workflows[body_async]),
                "async, step": tasks(workflows[stepped_async]),
            },
            about=f"DBOS {version('dbos')} on SQLite ({_settings(path)}, {CONNECTIONS} pooled connections)",
            settled=lambda: _settled(path),
        )
    DBOS.destroy()


def _named(form: Any) -> None:
    with SetWorkflowID(f"call-{next(_numbers)}"):
        form(INTENT)


async def _tasks(form: Any, callers: int, seconds: float) -> Window:
    async def call() -> None:
        with SetWorkflowID(f"call-{next(_numbers)}"):
            await form(INTENT)

    return await by_tasks(call, callers=callers, seconds=seconds)


def _engine(path: Path) -> Any:
    engine = sqlalchemy.create_engine(
        f"sqlite:///{path}", pool_size=CONNECTIONS, max_overflow=0, pool_timeout=60,
        connect_args={"check_same_thread": False},
    )  # fmt: skip

    sqlalchemy.event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    """What DBOS sets on its own engines, and WAL with full synchronisation."""
    connection.isolation_level = "IMMEDIATE"
    for pragma in ("busy_timeout=30000", "foreign_keys=ON", "journal_mode=WAL", "synchronous=FULL"):
        connection.execute(f"PRAGMA {pragma}")


def _settings(path: Path) -> str:
    connection = sqlite3.connect(path)
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    connection.close()
    return f"journal_mode={mode}, synchronous=FULL"


def _settled(path: Path) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute(
        "SELECT count(*) FROM workflow_status s JOIN workflow_input i USING (workflow_uuid)"
        " JOIN workflow_output o USING (workflow_uuid) WHERE s.status = 'SUCCESS'"
        " AND length(i.inputs) >= 470 AND length(o.output) >= 140"
    ).fetchone()
    connection.close()
    return int(count)


if __name__ == "__main__":
    main()
