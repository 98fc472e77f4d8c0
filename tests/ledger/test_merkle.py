"""The Merkle tree against the definitions of RFC 9162, section 2.1, written out as recursion over the leaves."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.ledger.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_at,
    verify_consistency,
    verify_inclusion,
)
from assent.primitives.errors import Malformed

SIZE_MAX = 70

# The test tree of the Certificate Transparency project: eight entries, and the root after each.
KNOWN_ENTRIES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
KNOWN_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def entry(number: int) -> bytes:
    return b"entry %d" % number


def reference_root(entries: list[bytes]) -> bytes:
    """MTH(D[n])."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = reference_split(len(entries))
    return hashlib.sha256(b"\x01" + reference_root(entries[:k]) + reference_root(entries[k:])).digest()


def reference_split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def reference_path(m: int, entries: list[bytes]) -> list[bytes]:
    """PATH(m, D[n])."""
    if len(entries) == 1:
        return []
    k = reference_split(len(entries))
    if m < k:
        return [*reference_path(m, entries[:k]), reference_root(entries[k:])]
    return [*reference_path(m - k, entries[k:]), reference_root(entries[:k])]


def reference_subproof(m: int, entries: list[bytes], *, whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[n], b)."""
    if m == len(entries):
        return [] if whole else [reference_root(entries)]
    k = reference_split(len(entries))
    if m <= k:
        return [*reference_subproof(m, entries[:k], whole=whole), reference_root(entries[k:])]
    return [*reference_subproof(m - k, entries[k:], whole=False), reference_root(entries[:k])]


class Tree:
    """A stored tree: the frontier, and a dictionary of every complete subtree it reported."""

    def __init__(self, size: int) -> None:
        self.entries = [entry(number) for number in range(size)]
        self.frontier = Frontier()
        self.nodes: dict[tuple[int, int], bytes] = {}
        for number, data in enumerate(self.entries):
            self.nodes[0, number] = leaf_hash(data)
            for level, index, digest in self.frontier.append(leaf_hash(data)):
                assert (level, index) not in self.nodes
                self.nodes[level, index] = digest

    def node(self, level: int, index: int) -> bytes:
        return self.nodes[level, index]


TREE = Tree(SIZE_MAX)
ROOTS = [reference_root(TREE.entries[:size]) for size in range(SIZE_MAX + 1)]


@st.composite
def ranges(draw: st.DrawFn) -> tuple[int, int]:
    new = draw(st.integers(min_value=0, max_value=SIZE_MAX))
    return draw(st.integers(min_value=0, max_value=new)), new


@st.composite
def leaves(draw: st.DrawFn) -> tuple[int, int]:
    size = draw(st.integers(min_value=1, max_value=SIZE_MAX))
    return draw(st.integers(min_value=0, max_value=size - 1)), size


def test_frontier_gives_the_known_roots_when_fed_the_published_entries() -> None:
    frontier = Frontier()
    for text, root in zip(KNOWN_ENTRIES, KNOWN_ROOTS, strict=True):
        frontier.append(leaf_hash(bytes.fromhex(text)))
        assert frontier.root().hex() == root


def test_root_is_the_hash_of_nothing_when_the_tree_is_empty() -> None:
    assert Frontier().root() == EMPTY_ROOT == root_at(0, TREE.node) == hashlib.sha256(b"").digest()


def test_leaf_and_node_hashes_differ_when_they_cover_the_same_bytes() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != node_hash(left, right)


def test_append_reports_each_complete_subtree_once_for_every_size() -> None:
    expected = {
        (level, index): reference_root(TREE.entries[index << level : (index + 1) << level])
        for level in range(SIZE_MAX.bit_length())
        for index in range(SIZE_MAX >> level)
    }
    assert TREE.nodes == expected


def test_append_reports_nodes_from_low_to_high_when_several_complete() -> None:
    frontier = Frontier.read(7, TREE.node)
    assert frontier.append(TREE.node(0, 7)) == [(1, 3, TREE.node(1, 3)), (2, 1, TREE.node(2, 1)), (3, 0, ROOTS[8])]
    assert frontier.append(TREE.node(0, 8)) == []


@given(st.integers(min_value=0, max_value=SIZE_MAX))
def test_root_agrees_with_the_definition_for_any_size(size: int) -> None:
    assert root_at(size, TREE.node) == ROOTS[size]
    assert Frontier.read(size, TREE.node).root() == ROOTS[size]


@given(ranges())
def test_frontier_continues_as_if_never_stopped_when_read_back(sizes: tuple[int, int]) -> None:
    old, new = sizes
    frontier = Frontier.read(old, TREE.node)
    for number in range(old, new):
        frontier.append(TREE.node(0, number))
    assert (frontier.size, frontier.root()) == (new, ROOTS[new])


def test_copy_stays_where_it_was_when_the_frontier_moves_on() -> None:
    frontier = Frontier.read(5, TREE.node)
    kept = frontier.copy()
    frontier.append(leaf_hash(b"lost with its transaction"))
    assert (kept.size, kept.root()) == (5, ROOTS[5])
    kept.append(TREE.node(0, 5))
    assert kept.root() == ROOTS[6]


@pytest.mark.parametrize(("size", "peaks"), [(1, 0), (0, 1), (3, 1), (-1, 1)])
def test_frontier_refuses_its_parts_when_they_do_not_belong_together(size: int, peaks: int) -> None:
    with pytest.raises(Malformed) as caught:
        Frontier(size=size, peaks=[EMPTY_ROOT] * peaks)
    assert caught.value.code == "frontier_malformed"


@given(leaves())
def test_inclusion_proof_is_the_one_of_the_rfc_and_holds_for_any_leaf(leaf: tuple[int, int]) -> None:
    index, size = leaf
    proof = inclusion_proof(index, size, TREE.node)
    assert proof == reference_path(index, TREE.entries[:size])
    assert verify_inclusion(index=index, size=size, leaf=TREE.node(0, index), proof=proof, root=ROOTS[size])


@given(leaves(), st.data())
def test_inclusion_fails_when_any_part_is_changed(leaf: tuple[int, int], data: st.DataObject) -> None:
    index, size = leaf
    proof = inclusion_proof(index, size, TREE.node)
    other = data.draw(st.integers(min_value=-1, max_value=size))
    claim = {"index": index, "size": size, "leaf": TREE.node(0, index), "proof": proof, "root": ROOTS[size]}
    wrong = [{**claim, "proof": [*proof, EMPTY_ROOT]}, {**claim, "root": EMPTY_ROOT}, {**claim, "leaf": EMPTY_ROOT}]
    wrong += [{**claim, "proof": proof[:cut] + proof[cut + 1 :]} for cut in range(len(proof))]
    wrong += [{**claim, "proof": [*proof[:cut], EMPTY_ROOT, *proof[cut + 1 :]]} for cut in range(len(proof))]
    wrong += [{**claim, "proof": [part[:31] for part in proof]}] if proof else []
    wrong += [{**claim, "index": other}] if other != index else []
    assert not any(verify_inclusion(**claims) for claims in wrong)  # type: ignore[arg-type]  # a table of claims


@given(ranges())
def test_consistency_proof_is_the_one_of_the_rfc_and_holds_for_any_sizes(sizes: tuple[int, int]) -> None:
    old, new = sizes
    proof = consistency_proof(old, new, TREE.node)
    if old:
        assert proof == reference_subproof(old, TREE.entries[:new], whole=True)
    assert verify_consistency(old=old, new=new, old_root=ROOTS[old], new_root=ROOTS[new], proof=proof)


@given(ranges(), st.data())
def test_consistency_fails_when_any_part_is_changed(sizes: tuple[int, int], data: st.DataObject) -> None:
    old, new = sizes
    proof = consistency_proof(old, new, TREE.node)
    forged = leaf_hash(b"forged")
    claim = {"old": old, "new": new, "old_root": ROOTS[old], "new_root": ROOTS[new], "proof": proof}
    wrong = [{**claim, "proof": [*proof, forged]}, {**claim, "old_root": forged}]
    wrong += [{**claim, "new_root": forged}] if old else []  # every tree continues the empty one
    wrong += [{**claim, "proof": proof[:cut] + proof[cut + 1 :]} for cut in range(len(proof))]
    wrong += [{**claim, "proof": [*proof[:cut], forged, *proof[cut + 1 :]]} for cut in range(len(proof))]
    wrong += [{**claim, "proof": [part + b"\x00" for part in proof]}] if proof else []
    other = data.draw(st.integers(min_value=-1, max_value=new + 1))
    wrong += [{**claim, "old": other}] if other != old else []
    assert not any(verify_consistency(**claims) for claims in wrong)  # type: ignore[arg-type]  # a table of claims


def test_consistency_fails_when_the_new_tree_rewrote_an_old_leaf() -> None:
    forged = Frontier.read(3, TREE.node)
    forged.append(leaf_hash(b"rewritten"))
    nodes = dict(TREE.nodes) | {(0, 3): leaf_hash(b"rewritten")}
    for level, index in ((1, 1), (2, 0), (3, 0)):
        nodes[level, index] = node_hash(nodes[level - 1, 2 * index], nodes[level - 1, 2 * index + 1])
    proof = consistency_proof(5, 8, lambda level, index: nodes[level, index])
    assert not verify_consistency(old=5, new=8, old_root=ROOTS[5], new_root=nodes[3, 0], proof=proof)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 3), (3, 3)])
def test_inclusion_proof_is_refused_when_there_is_no_such_leaf(index: int, size: int) -> None:
    with pytest.raises(Malformed) as caught:
        inclusion_proof(index, size, TREE.node)
    assert caught.value.code == "proof_out_of_range"


@pytest.mark.parametrize(("old", "new"), [(4, 3), (-1, 3)])
def test_consistency_proof_is_refused_when_the_old_size_is_not_an_earlier_one(old: int, new: int) -> None:
    with pytest.raises(Malformed) as caught:
        consistency_proof(old, new, TREE.node)
    assert caught.value.code == "proof_out_of_range"


def test_proofs_read_few_nodes_when_the_tree_is_large() -> None:
    reads: list[tuple[int, int]] = []

    def node(level: int, index: int) -> bytes:
        reads.append((level, index))
        return hashlib.sha256(b"%d/%d" % (level, index)).digest()

    size = 1_000_003
    assert len(inclusion_proof(123_456, size, node)) == 20
    assert len(consistency_proof(654_321, size, node)) <= 21
    assert len(reads) < 100
