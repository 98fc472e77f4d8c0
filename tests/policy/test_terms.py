from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.execution.attestations import LADDER, ConfinementClass, meets
from assent.execution.hosts import allow_list, canonical_host, in_common
from assent.execution.obligations import Obligations
from assent.execution.orders import Limits
from assent.ledger.decisions import ReviewTerms
from assent.policy.terms import Terms, joined, read_terms, tightened

FIELDS = Limits.__struct_fields__


def test_read_terms_reads_every_annotation():
    given_terms = {
        "id": "a",
        "reason": "why",
        "review": "Really?",
        "quorum": "2",
        "review_ttl_s": "60",
        "floor": "namespaced",
        "wall_s": "3",
        "cpu_s": "4",
        "memory_mb": "5",
        "output_kb": "6",
        "file_mb": "7",
        "processes": "8",
        "open_files": "9",
        "example": "{}",
    }
    terms, faults = read_terms(given_terms, effect="forbid")
    assert faults == []
    assert terms == Terms(
        reason="why",
        example="{}",
        review=ReviewTerms(question="Really?", quorum=2, ttl_s=60),
        floor=ConfinementClass.NAMESPACED,
        limits=(
            ("wall_ms", 3_000),
            ("cpu_s_max", 4),
            ("memory_bytes_max", 5 * 1_048_576),
            ("output_bytes_max", 6 * 1_024),
            ("file_bytes_max", 7 * 1_048_576),
            ("processes_max", 8),
            ("open_files_max", 9),
        ),
    )


@pytest.mark.parametrize(
    ("annotations", "effect", "fault"),
    [
        ({"wall": "3"}, "permit", "`@wall` is not an annotation"),
        ({"wall_s": "0"}, "permit", "`@wall_s` must be a whole number"),
        ({"wall_s": "-1"}, "permit", "`@wall_s` must be a whole number"),
        ({"wall_s": "1.5"}, "permit", "`@wall_s` must be a whole number"),
        ({"wall_s": "٣"}, "permit", "`@wall_s` must be a whole number"),
        ({"wall_s": ""}, "permit", "`@wall_s` must be a whole number"),
        ({"wall_s": "9" * 400}, "permit", "`@wall_s` must be a whole number"),
        ({"memory_mb": "999999"}, "permit", "`@memory_mb` must be a whole number"),
        ({"floor": "strong"}, "permit", "`@floor` must be one of"),
        ({"review": "Really?"}, "permit", "`@review` belongs to a `forbid`"),
        ({"review": " "}, "forbid", "`@review` must be a printable text"),
        ({"review": "a\nb"}, "forbid", "`@review` must be a printable text"),
        ({"review": "a\u202eb"}, "forbid", "`@review` must be a printable text"),
        ({"reason": "x" * 501}, "permit", "`@reason` must be a printable text"),
        ({"quorum": "2"}, "forbid", "`@quorum` says nothing here without `@review`"),
        ({"quorum": "2"}, "permit", "`@quorum` says nothing here without `@review`"),
        ({"review": "Really?", "quorum": "17"}, "forbid", "`@quorum` must be a whole number from 1 to 16"),
        ({"wall_s": "3"}, "forbid", "`@wall_s` says nothing here without `@review`"),
        ({"floor": "confined"}, "forbid", "`@floor` says nothing here without `@review`"),
        ({"egress": "api.example.org:443"}, "forbid", "`@egress` says nothing here without `@review`"),
        ({"egress": ""}, "permit", "`@egress` must name 1 to 64 hosts"),
        ({"egress": " ".join(f"h{n}.example.org:443" for n in range(65))}, "permit", "`@egress` must name 1 to 64"),
        ({"egress": "api.example.org"}, "permit", "`@egress`: `api.example.org` is no allow-list entry"),
        ({"egress": "https://api.example.org:443"}, "permit", "`@egress`: `https://api.example.org:443` is no"),
        ({"egress": "*.org:443"}, "permit", "`@egress`: the wildcard `*.org:443` is too wide"),
        ({"egress": "api.example.org:443,b.org:443"}, "permit", "`@egress`: `api.example.org:443,b.org:443` is no"),
        ({"egress": "2130706433:80"}, "permit", "`@egress`: `2130706433:80` is no allow-list entry"),
        ({"egress": "a.example.org:*"}, "permit", "`@egress`: `a.example.org:*` is no allow-list entry"),
    ],
)
def test_read_terms_refuses_what_is_unknown_misplaced_or_malformed(
    annotations: dict[str, str], effect: str, fault: str
):
    terms, faults = read_terms(annotations, effect=effect)
    assert terms == Terms()
    assert any(text.startswith(fault) for text in faults), faults


HOSTS = [
    f"{host}:{port}"
    for host in ("example.org", "*.example.org", "a.example.org", "*.a.example.org", "10.0.0.1")
    for port in (80, 443)
]
TERMS = st.builds(
    Terms,
    floor=st.none() | st.sampled_from(LADDER),
    accept=st.none() | st.lists(st.sampled_from(ConfinementClass), unique=True, max_size=3).map(tuple),
    egress=st.none() | st.lists(st.sampled_from(HOSTS), min_size=1, max_size=4).map(lambda some: in_common(some, some)),
    limits=st.lists(st.tuples(st.sampled_from(FIELDS), st.integers(1, 2**40)), max_size=5).map(tuple),
)
BASES = st.builds(
    Obligations,
    floor=st.sampled_from(LADDER),
    limits=st.builds(Limits, **{name: st.integers(1, 2**40) for name in FIELDS}),
)


LEAST = ConfinementClass.CONFINED


@given(base=BASES, terms=st.lists(TERMS, max_size=4))
def test_tightened_takes_the_strictest_named_and_otherwise_the_default(base: Obligations, terms: list[Terms]):
    found = tightened(base, terms, hosts=("a:1",), least=LEAST)
    named = [set(term.accept) for term in terms if term.accept is not None]
    assert meets(found.floor, LEAST)
    assert named or meets(found.floor, base.floor)
    assert set(found.accept or ()) == (set.intersection(*named) if named else set())
    assert (found.accept is None) == (not named)
    assert all(meets(found.floor, term.floor) for term in terms if term.floor is not None)
    for name in FIELDS:
        amounts = [n for term in terms for f, n in term.limits if f == name]
        assert getattr(found.limits, name) == min(amounts, default=getattr(base.limits, name))
    assert found.hosts == ("a:1",)  # the call's own, whatever rules name


@given(terms=st.lists(TERMS, max_size=4))
def test_tightened_admits_a_host_only_when_every_rule_that_names_hosts_does(terms: list[Terms]):
    found = allow_list(tightened(Obligations(), terms, hosts=(), least=LEAST).hosts)
    named = [allow_list(term.egress) for term in terms if term.egress is not None]
    for text in ("example.org", "a.example.org", "b.a.example.org", "10.0.0.1", "other.test"):
        for port in (80, 443):
            host = canonical_host(text)
            assert found.admits(host, port) == (bool(named) and all(one.admits(host, port) for one in named))


def test_read_terms_takes_hosts_in_their_one_spelling():
    terms, faults = read_terms(
        {"egress": "  API.Example.org.:443\t*.b.test:80 [::0001]:8080 *.b.test:80 "}, effect="permit"
    )
    assert faults == []
    assert terms.egress == ("*.b.test:80", "[::1]:8080", "api.example.org:443")


@given(base=BASES, terms=st.lists(TERMS, max_size=4))
def test_tightened_does_not_depend_on_the_order_of_rules_but_for_what_is_preferred(
    base: Obligations, terms: list[Terms]
):
    one, other = (tightened(base, some, hosts=(), least=LEAST) for some in (terms, terms[::-1]))
    assert msgspec.structs.replace(one, accept=None) == msgspec.structs.replace(other, accept=None)
    assert set(one.accept or ()) == set(other.accept or ())


def test_joined_asks_every_question_with_the_largest_quorum_and_the_shortest_time():
    terms = [
        Terms(review=ReviewTerms(question="One?", quorum=1, ttl_s=60)),
        Terms(review=ReviewTerms(question="Two?", quorum=3, ttl_s=90)),
        Terms(review=ReviewTerms(question="One?", quorum=2, ttl_s=30)),
        Terms(),
    ]
    assert joined(terms, question="Well?") == ReviewTerms(question="One? Two?", quorum=3, ttl_s=30)


def test_joined_asks_the_given_question_when_no_rule_has_one():
    assert joined([Terms()], question="Well?") == ReviewTerms(question="Well?")
