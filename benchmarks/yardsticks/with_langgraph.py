"""LangGraph with its SQLite saver doing the work of a governed no-op call, as fast as its own means allow.

A graph of two nodes, `accept` and `effect`, run with durability="sync": each step is in the database before the next
begins. The input is 470 bytes, the outcome 140. The saver turns WAL on by itself; synchronous=FULL is SQLite's default
and is set all the same. Two forms: the synchronous saver under threads, the asynchronous one under tasks.
"""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import aiosqlite  # type: ignore[import-not-found] # (lives in the yardsticks' environment)
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from benchmarks.serving import serve
from benchmarks.windows import Window, by_tasks, by_threads

INTENT, OUTCOME = "x" * 470, "y" * 140
_numbers = itertools.count(1)


class State(TypedDict, total=False):
    """What the graph carries: the call as it was asked, and how it ended."""

    intent: str
    outcome: str


def main() -> None:
    """Serve windows on two databases in the folder that is the argument."""
    path, path_async = Path(sys.argv[1]) / "langgraph.db", Path(sys.argv[1]) / "langgraph_async.db"
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.execute("PRAGMA synchronous=FULL")
    saver = SqliteSaver(connection)
    saver.setup()
    graph = _graph(saver)
    with asyncio.Runner() as runner:
        connection_async = runner.run(_connect(path_async))
        graph_async = runner.run(_graph_async(connection_async))
        serve(
            {
                "sync": lambda callers, seconds: by_threads(lambda: _call(graph), callers=callers, seconds=seconds),
                "async": lambda callers, seconds: runner.run(_tasks(graph_async, callers, seconds)),
            },
            about=f"LangGraph {version('langgraph')} with the SQLite saver {version('langgraph-checkpoint-sqlite')}"
            f" (journal_mode={_asked(connection, 'journal_mode')}, synchronous={_asked(connection, 'synchronous')},"
            ' durability="sync")',
            settled=lambda: sum(map(_settled, (path, path_async))),
        )
        runner.run(connection_async.close())
    connection.close()


def accept(state: State) -> State:
    """The first node: the call is in the database when the second begins."""
    return {"intent": state["intent"]}


def effect(state: State) -> State:
    """The second: do nothing, and say so."""
    return {"outcome": OUTCOME if state["intent"] else ""}


async def accept_async(state: State) -> State:
    """The same for the asynchronous graph, which would send a plain function to a thread."""
    return accept(state)


async def effect_async(state: State) -> State:
    """The same for the asynchronous graph."""
    return effect(state)


def _graph(saver: Any) -> Any:
    return _compiled(saver, accept, effect)


async def _graph_async(connection: aiosqlite.Connection) -> Any:
    saver = AsyncSqliteSaver(connection)
    await saver.setup()
    return _compiled(saver, accept_async, effect_async)


def _compiled(saver: Any, first: Any, second: Any) -> Any:
    builder = StateGraph(State)
    builder.add_node("accept", first)
    builder.add_node("effect", second)
    builder.add_edge(START, "accept")
    builder.add_edge("accept", "effect")
    builder.add_edge("effect", END)
    return builder.compile(checkpointer=saver)


def _call(graph: Any) -> None:
    found = graph.invoke({"intent": INTENT}, _config(), durability="sync")
    assert found["outcome"]


async def _tasks(graph: Any, callers: int, seconds: float) -> Window:
    async def call() -> None:
        found = await graph.ainvoke({"intent": INTENT}, _config(), durability="sync")
        assert found["outcome"]

    return await by_tasks(call, callers=callers, seconds=seconds)


def _config() -> Any:
    return {"configurable": {"thread_id": f"call-{next(_numbers)}"}}


async def _connect(path: Path) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(path)
    await connection.execute("PRAGMA synchronous=FULL")
    return connection


def _asked(connection: sqlite3.Connection, pragma: str) -> object:
    return connection.execute(f"PRAGMA {pragma}").fetchone()[0]


def _settled(path: Path) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute("SELECT count(DISTINCT thread_id) FROM writes WHERE channel = 'outcome'").fetchone()
    connection.close()
    return int(count)


if __name__ == "__main__":
    main()
