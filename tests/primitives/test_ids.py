from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.primitives.errors import Malformed
from assent.primitives.ids import PREFIXES, IdSource, kind_of, tenant
from assent.testing.clocks import SetClock
from assent.testing.entropy import SeededEntropy


def makers(source: IdSource) -> dict[str, str]:
    return {kind: str(getattr(source, kind)()) for kind in PREFIXES}


def test_id_carries_its_kind_when_it_was_made():
    source = IdSource(SetClock(), SeededEntropy())
    for kind, text in makers(source).items():
        assert kind_of(text) == kind
        assert text.startswith(PREFIXES[kind] + "_")
        assert len(text) == 32


def test_every_prefix_has_a_maker_and_is_its_own():
    assert set(makers(IdSource(SetClock(), SeededEntropy()))) == set(PREFIXES)
    assert len(set(PREFIXES.values())) == len(PREFIXES)


def test_ids_sort_by_age_when_they_were_made_in_different_milliseconds():
    clock = SetClock(0)
    source = IdSource(clock, SeededEntropy())
    made = []
    for _ in range(300):
        made.append(source.effect())
        clock.pass_ms(7_000_000_000)
    assert made == sorted(made)
    assert len(set(map(len, made))) == 1


def test_ids_differ_when_they_were_made_in_the_same_millisecond():
    source = IdSource(SetClock(), SeededEntropy())
    assert len({source.effect() for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize(
    "text",
    ["", "eff_", "eff_" + "0" * 27, "eff_" + "0" * 29, "eff_" + "0" * 28 + "\n", "eff_" + "G" * 28, "xyz_" + "0" * 28,
     "EFF_" + "0" * 28, " eff_" + "0" * 28, "eff-" + "0" * 28, "eff_" + "\u0660" * 28],
)  # fmt: skip
def test_kind_is_refused_when_the_text_is_not_an_id(text):
    with pytest.raises(Malformed) as refused:
        kind_of(text)
    assert refused.value.code == "id_malformed"


@given(st.text(max_size=80))
def test_kind_is_known_or_refused_whatever_the_text(text):
    kind, message = None, ""
    try:
        kind = kind_of(text)
    except Malformed as refused:
        message = refused.message
    assert kind in PREFIXES or 0 < len(message) < 200


@pytest.mark.parametrize("text", ["a", "acme", "a-b", "0", "x" * 63, "a--b"])
def test_tenant_is_taken_when_it_is_a_dns_label(text):
    assert tenant(text) == text


@pytest.mark.parametrize(
    "text",
    ["", "-", "-a", "a-", "A", "a.b", "a b", "a\n", "a\x00", "x" * 64, "\u00e9", "a/b", '"', "..", "a_b", "\u0661"],
)
def test_tenant_is_refused_when_it_is_not_a_dns_label(text):
    with pytest.raises(Malformed) as refused:
        tenant(text)
    assert refused.value.code == "tenant_malformed"
