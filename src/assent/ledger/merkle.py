"""The Merkle tree of the log: RFC 6962 hashing, append, proofs and their verification. Pure.

The tree in words. A leaf is hashed behind a zero byte, an inner node behind a one byte, so neither can pass for the
other. A tree of n leaves splits at the largest power of two below n: left a complete tree, right the rest. All hashes
that never change again are those of *complete subtrees*, named `(level, index)`: the one of 2**level leaves that starts
at leaf index * 2**level. Level 0 are the leaf hashes. They are all that is stored; every root and every proof, of the
tree at any earlier size, is folded from O(log n) of them.

The frontier (the "compact range" of transparency logs) holds the peaks: the complete subtrees that one bit of the size
each stands for, largest first. A leaf is appended like one is added to a binary number: every carry hashes two equal
peaks into a node of the next level. That is one node hash a leaf on average, and no other state.

Proofs and checks follow RFC 9162, sections 2.1.3 (inclusion) and 2.1.4 (consistency). The RFC leaves the empty tree
open; here it is consistent with every tree, by an empty proof, if its root is the hash of nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from assent.primitives.errors import Malformed

Node: TypeAlias = tuple[int, int, bytes]
"""A complete subtree: its level, its index on the level and its hash."""

ReadNode: TypeAlias = Callable[[int, int], bytes]
"""Reads the stored hash of the complete subtree `(level, index)`; level 0 are the leaf hashes."""

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

_sha256 = hashlib.sha256


def leaf_hash(entry: bytes) -> bytes:
    """The hash of the leaf that holds `entry`."""
    return _sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of the inner node above `left` and `right`."""
    return _sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: enough to append leaves and to know the root. One writer at a time.

    `size` is the number of leaves, `peaks` the hashes of the complete subtrees from left to right.
    """

    __slots__ = ("peaks", "size")

    def __init__(self, *, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)
        if size < 0 or len(self.peaks) != size.bit_count():
            raise Malformed("frontier_malformed", f"`{len(self.peaks)}` peaks cannot stand for `{size}` leaves")

    @classmethod
    def read(cls, size: int, node: ReadNode) -> Frontier:
        """The frontier of the first `size` leaves of a stored tree."""
        return cls(size=size, peaks=_hashes(_peaks(0, size), node))

    def append(self, leaf: bytes) -> list[Node]:
        """Add the leaf with this leaf hash; return the inner nodes it completed, lowest first."""
        completed: list[Node] = []
        peaks = self.peaks
        index = self.size
        level = 0
        while index & 1:
            index >>= 1
            level += 1
            leaf = _sha256(b"\x01" + peaks.pop() + leaf).digest()
            completed.append((level, index, leaf))
        peaks.append(leaf)
        self.size += 1
        return completed

    def root(self) -> bytes:
        """The root of the tree as it stands."""
        return _fold(self.peaks)

    def copy(self) -> Frontier:
        """An independent frontier at the same place, to go back to when a transaction fails."""
        return Frontier(size=self.size, peaks=self.peaks)


def root_at(size: int, node: ReadNode) -> bytes:
    """The root the stored tree had when it held `size` leaves."""
    return _fold(_hashes(_peaks(0, size), node))


def inclusion_proof(index: int, size: int, node: ReadNode) -> list[bytes]:
    """The hashes that prove leaf `index` is in the tree of `size` leaves, lowest first.

    Raises:
        Malformed: there is no such leaf.
    """
    if not 0 <= index < size:
        raise Malformed("proof_out_of_range", f"a tree of `{size}` leaves has no leaf `{index}`")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = _split(start, end)
        if index < middle:
            proof.append(_range_hash(middle, end, node))
            end = middle
        else:
            proof.append(_range_hash(start, middle, node))
            start = middle
    proof.reverse()
    return proof


def consistency_proof(old: int, new: int, node: ReadNode) -> list[bytes]:
    """The hashes that prove the tree of `new` leaves begins with the tree of `old` leaves.

    Raises:
        Malformed: `old` is larger than `new`.
    """
    if not 0 <= old <= new:
        raise Malformed("proof_out_of_range", f"a tree of `{new}` leaves has no earlier size `{old}`")
    if old in (0, new):
        return []
    proof: list[bytes] = []
    start, end = 0, new
    while end != old:
        middle = _split(start, end)
        if old <= middle:
            proof.append(_range_hash(middle, end, node))
            end = middle
        else:
            proof.append(_range_hash(start, middle, node))
            start = middle
    if start:  # at 0 the whole old tree is left over, and the verifier has its root
        proof.append(_range_hash(start, end, node))
    proof.reverse()
    return proof


def verify_inclusion(*, index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether `proof` shows that the leaf hash `leaf` is number `index` of the `size` leaves under `root`."""
    if not 0 <= index < size or not _well_formed(proof):
        return False
    last, found = size - 1, leaf
    for sibling in proof:
        if last == 0:
            return False
        if index & 1 or index == last:
            found = node_hash(sibling, found)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        index, last = index >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(*, old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether `proof` shows that the tree of `new` leaves begins with the tree of `old` leaves."""
    if not 0 <= old <= new or not _well_formed(proof):
        return False
    if old == new:
        return not proof and old_root == new_root
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof) if old & (old - 1) else [old_root, *proof]  # a power of two is itself the first complete subtree
    index, last = old - 1, new - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    return bool(path) and _climb(index, last, path) == (old_root, new_root)


def _climb(index: int, last: int, path: list[bytes]) -> tuple[bytes, bytes] | None:
    """Both roots that `path` leads to, or None if its length does not fit."""
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return None
        if index & 1 or index == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while not index & 1 and index:
                index, last = index >> 1, last >> 1
        else:
            new = node_hash(new, sibling)
        index, last = index >> 1, last >> 1
    return (old, new) if last == 0 else None


def _well_formed(proof: Sequence[bytes]) -> bool:
    return all(len(part) == HASH_BYTES for part in proof)


def _split(start: int, end: int) -> int:
    """Where the tree over the leaves from `start` to `end` splits: the largest power of two below its size."""
    return start + (1 << ((end - start - 1).bit_length() - 1))


def _peaks(start: int, end: int) -> list[tuple[int, int]]:
    """The complete subtrees that make up the leaves from `start` to `end`, where `start` is where a subtree begins."""
    peaks = []
    while start < end:
        level = (end - start).bit_length() - 1
        peaks.append((level, start >> level))
        start += 1 << level
    return peaks


def _hashes(nodes: Iterable[tuple[int, int]], node: ReadNode) -> list[bytes]:
    return [node(level, index) for level, index in nodes]


def _range_hash(start: int, end: int, node: ReadNode) -> bytes:
    return _fold(_hashes(_peaks(start, end), node))


def _fold(peaks: Sequence[bytes]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    folded = peaks[-1]
    for peak in reversed(peaks[:-1]):
        folded = node_hash(peak, folded)
    return folded
