"""What a stranger may learn of a tenant: nothing. How that is tried, and of which methods it must be.

A try is made three times. With the owner's ids by a stranger: what comes is compared with what the same stranger gets
for ids that never were, and may hold no mark of the owner's. And by the owner, who must hear or do something: a try
that nobody could hear anything by would prove nothing.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import assent
from assent.primitives.errors import AssentError

CANARY = "kanarienvogel"
"""It stands in whatever the owner says, names, writes or is answered."""
_WORD = re.compile(r"\w+")


class Try(NamedTuple):
    """One way to reach for what is another's. Of what names nothing of the owner's (`names` is False: a list, or what
    is one's own to begin with) there is no absent id to compare with."""

    do: Callable[..., Awaitable[Any]]
    names: bool = True


class Ids(dict[str, str]):
    """Names of what there is, and which of them were asked for."""

    def __init__(self, ids: Mapping[str, str]) -> None:
        super().__init__(ids)
        self.used: set[str] = set()

    def __missing__(self, name: str) -> str:
        raise LookupError(f"the owner has nothing that is called `{name}` here")

    def __getitem__(self, name: str) -> Any:
        self.used.add(found := super().__getitem__(name))
        return found

    def absent(self) -> Ids:
        """Names of the same form, of what never was."""
        return Ids({name: f"{id_[:-1]}{'1' if id_[-1] == '0' else '0'}" for name, id_ in self.items()})

    def hidden_in(self, text: str) -> str:
        """A text without the names that were asked for: to be told one's own words again tells nothing."""
        for id_ in sorted(self.used, key=len, reverse=True):
            text = text.replace(id_, "[asked]")
        return text

    def told_in(self, text: str) -> list[str]:
        """The marks of the owner that stand in a text, beside what was asked for."""
        hidden = self.hidden_in(text)
        return [mark for mark in (CANARY, *sorted({*self.values()})) if mark in hidden]


async def told(doing: Awaitable[Any]) -> str:
    """All that an answer tells, or an error."""
    try:
        return repr(await doing)
    except AssentError as error:
        return f"{type(error).__name__} {error.code}: {error} ({error.hint})"


def is_error(text: str) -> bool:
    """Whether `told` tells of an error."""
    return re.match(r"(NotFound|Refused|Conflict|Malformed|Unavailable|InvariantBroken) \w+: ", text) is not None


def modules() -> Iterator[Any]:
    """Every module there is, but for those that speak to foreign libraries or are run as programs."""
    for found in pkgutil.walk_packages(assent.__path__, "assent."):
        if ".adapters." not in found.name and not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


def _own_classes(module: Any) -> Iterator[type]:
    return (one for one in vars(module).values() if inspect.isclass(one) and one.__module__ == module.__name__)


def classes_of_a_tenant() -> frozenset[str]:
    """The names of all classes whose values say which tenant they are of."""
    every = [one for module in modules() for one in _own_classes(module)]
    return frozenset(one.__name__ for one in every if "tenant" in getattr(one, "__annotations__", {}))


def taking_a_tenant(*, where: Callable[[str], bool]) -> set[str]:
    """Every public method, as `Class.method`, that is given a tenant or a value that says of which tenant it is."""
    telling = {"TenantId"} | classes_of_a_tenant()
    found = set()
    for module in modules():
        if where(module.__name__):
            for class_ in _own_classes(module):
                for name, method in vars(class_).items():
                    given = [str(t) for of, t in getattr(method, "__annotations__", {}).items() if of != "return"]
                    if not name.startswith("_") and any(telling & set(_WORD.findall(one)) for one in given):
                        found.add(f"{class_.__name__}.{name}")
    return found


def must_be_known(found: set[str], tried: set[str], exempt: Mapping[str, str]) -> None:
    """Check that every method is tried, or exempt for a reason (by its name, or by that of its class), and nothing
    is said of what there is not."""
    spared = {one for one in found if one in exempt or one.partition(".")[0] in exempt}
    new = sorted(found - tried - spared)
    assert not new, f"the tenant canary does not know {new}: add a try with a foreign id, or say why there can be none"
    gone = sorted(tried - found) + sorted(
        one for one in exempt if one not in found and one not in {name.partition(".")[0] for name in found}
    )
    assert not gone, f"the tenant canary tries or spares {gone}, which take no tenant"
    assert not (twice := tried & spared), f"both tried and spared: {sorted(twice)}"


def rows_of(database: Path, tenant: str) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of a tenant, by table."""
    found = {}
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        for (table,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            columns = [one[1] for one in connection.execute(f"PRAGMA table_info({table})")]
            if "tenant" in columns:
                query = f"SELECT * FROM {table} WHERE tenant = ? ORDER BY {', '.join(columns)}"
                found[table] = connection.execute(query, (tenant,)).fetchall()
    assert any(found.values()), "the owner has no rows at all"
    return found


class Scene(Protocol):
    """Where two tenants are, and what the owner has there, by name."""

    @property
    def ids(self) -> Mapping[str, str]:
        """The names of what the owner has."""
        ...

    async def size(self) -> int:
        """How much of the owner is on record: it grows with everything that is done."""
        ...

    def rows(self) -> Any:
        """All that the owner has."""
        ...


async def first_of(found: AsyncIterator[Any]) -> Any:
    """The first thing that comes; nothing, when there is none."""
    async for one in found:
        return one
    return None


async def must_learn_nothing(scene: Scene, tries: Mapping[str, Try], *, owner: str, stranger: str) -> None:
    """Let a stranger try, and then the owner."""
    size, rows, heard = await scene.size(), scene.rows(), {}
    for name, one in tries.items():
        theirs = Ids(scene.ids)
        answer = await told(one.do(scene, stranger, theirs))
        nobodys = theirs.absent()
        nothing = await told(one.do(scene, stranger, nobodys))
        assert not theirs.told_in(answer), f"{name} tells of the owner: {answer}"
        if one.names:
            assert theirs.used, f"{name} names nothing of the owner's"
            assert theirs.hidden_in(answer) == nobodys.hidden_in(nothing), f"{name} tells that it is there"
        assert await scene.size() == size, f"{name} did something in the owner's name"
        assert scene.rows() == rows, f"{name} changed what the owner has"
        heard[name] = theirs.hidden_in(answer)
    for name, one in tries.items():
        before, theirs = await scene.size(), Ids(scene.ids)
        answer = await told(one.do(scene, owner, theirs))
        assert not is_error(answer), f"{name} is refused to the owner, so that it proves nothing: {answer}"
        did = await scene.size() > before
        assert did or theirs.hidden_in(answer) != heard[name], f"the owner hears nothing by {name}: this canary is deaf"
