"""The entries of one tenant in memory: by id, by what they are found by, by owner, and in the order of their changes.

Nothing here takes time in how many entries there are. A change is kept as the newest of its entry alone, so as many are
kept as there are entries, and those that are gone for no longer than the horizon.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from assent.primitives.leases import Fence
from assent.registry.agents import Change, Entry, Query, fits
from assent.registry.ordered import Ordered

K = TypeVar("K", str, Fence)


class Shelf:
    """Entries of one tenant. `revision` is that of the last change, `floor` that of the last one that is forgotten."""

    __slots__ = ("_by", "_changed", "_entries", "_gone", "_ids", "_keys", "_owned", "_revisions", "floor", "revision")

    def __init__(self, keys: Callable[[Entry], Sequence[str]]) -> None:
        self.revision = self.floor = 0
        self._keys = keys
        self._entries: dict[str, Entry] = {}
        self._ids: Ordered[str] = Ordered()
        self._by: dict[str, Ordered[str]] = {}
        self._owned: dict[Fence, Ordered[str]] = {}
        self._gone: OrderedDict[str, int] = OrderedDict()
        self._revisions: Ordered[int] = Ordered()
        self._changed: dict[int, str] = {}

    @property
    def owners(self) -> tuple[Fence, ...]:
        """Whose entries there are, in order."""
        return tuple(sorted(self._owned, key=lambda owner: (owner.node, owner.number)))

    def owned(self, owner: Fence) -> Iterator[str]:
        """The ids of an owner's entries, in order."""
        return iter(self._owned.get(owner, ()))

    def get(self, id_: str) -> Entry | None:
        """One entry, or None."""
        return self._entries.get(id_)

    def find(self, query: Query, keys: Sequence[str], holds: Callable[[Fence], bool]) -> list[Entry]:
        """The entries that fit and whose owner `holds`, by id."""
        ids = self._rarest(keys) if keys else self._ids
        entries, all_fit = self._entries, len(keys) < 2
        found: list[Entry] = []
        owner, held = None, False
        for id_ in (ids.after(query.after) if query.after else ids) if ids is not None else ():
            entry = entries[id_]
            if entry.owner is not owner:
                owner, held = entry.owner, holds(entry.owner)
            if held and (all_fit or fits(entry, query)):
                found.append(entry)
                if len(found) == query.limit:
                    break
        return found

    def put(self, entry: Entry) -> None:
        """Write an entry under its revision, in place of the one that is there."""
        there = self._entries.get(entry.id)
        if there is not None:
            self._unlist(there)
        elif (gone := self._gone.pop(entry.id, None)) is not None:
            self._unchange(gone)
        if there is None:
            self._ids.add(entry.id)
        self._entries[entry.id] = entry
        for key in self._keys(entry):
            _ordered(self._by, key).add(entry.id)
        _ordered(self._owned, entry.owner).add(entry.id)
        self._change(entry.revision, entry.id)

    def drop(self, id_: str, *, revision: int) -> None:
        """Take an entry out that is there."""
        entry = self._entries.pop(id_)
        self._ids.remove(id_)
        self._unlist(entry)
        self._gone[id_] = revision
        self._change(revision, id_)

    def forget(self, horizon: int) -> None:
        """Forget what is gone since the revision `horizon` or longer."""
        while self._gone and next(iter(self._gone.values())) <= horizon:
            _, self.floor = self._gone.popitem(last=False)
            self._unchange(self.floor)

    def changes(self, after: int, limit: int) -> Iterator[Change]:
        """What changed after a revision, in order."""
        for revision in islice(self._revisions.after(after), limit):
            id_ = self._changed[revision]
            yield Change(revision=revision, id=id_, entry=self._entries.get(id_))

    def _rarest(self, keys: Sequence[str]) -> Ordered[str] | None:
        """The fewest entries that hold everything with all keys; None when there are none."""
        lists = [self._by.get(key) for key in keys]
        there = [one for one in lists if one is not None]
        return min(there, key=len) if len(there) == len(lists) else None

    def _unlist(self, entry: Entry) -> None:
        for key in self._keys(entry):
            _take_out(self._by, key, entry.id)
        _take_out(self._owned, entry.owner, entry.id)
        self._unchange(entry.revision)

    def _change(self, revision: int, id_: str) -> None:
        self.revision = revision
        self._revisions.add(revision)
        self._changed[revision] = id_

    def _unchange(self, revision: int) -> None:
        self._revisions.remove(revision)
        del self._changed[revision]


def _ordered(lists: dict[K, Ordered[str]], key: K) -> Ordered[str]:
    found = lists.get(key)
    if found is None:
        found = lists[key] = Ordered()
    return found


def _take_out(lists: dict[K, Ordered[str]], key: K, id_: str) -> None:
    found = lists[key]
    found.remove(id_)
    if not found:
        del lists[key]
