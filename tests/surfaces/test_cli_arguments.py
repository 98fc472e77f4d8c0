from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.bootstrap.policy_folder import contracts
from assent.execution.attestations import ConfinementClass
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract
from assent.primitives.errors import Malformed
from assent.surfaces.cli.arguments import Call, read_call

WITH_ALL = OperationContract(
    name="test.all",
    summary="takes everything",
    effect=EffectClass.READ,
    idempotency=Idempotency.NATURAL,
    floor=ConfinementClass.LOCAL_WEAK,
    arguments=(
        Argument(name="content_type", kind="text", help="a text"),
        Argument(name="count", kind="integer", help="a number"),
        Argument(name="deep", kind="boolean", help="a flag"),
        Argument(name="words", kind="texts", help="a list"),
        Argument(name="headers", kind="map", help="a map"),
    ),
)
OFFERED = {**contracts(), "test.all": WITH_ALL}


def _nothing(name: str) -> bytes:
    raise AssertionError(f"nothing should be read, but `{name}` was")


def read(*words: str) -> Call:
    return read_call(words, contracts=OFFERED, read=_nothing)


def refused(*words: str) -> Malformed:
    with pytest.raises(Malformed) as caught:
        read(*words)
    return caught.value


@pytest.mark.parametrize(
    ("words", "arguments"),
    [
        ((), {}),
        (("--content-type", "a b"), {"content_type": "a b"}),
        (("--content_type=x=y",), {"content_type": "x=y"}),
        (("--content-type", "--json"), {"content_type": "--json"}),
        (("--content-type", ""), {"content_type": ""}),
        (("--content-type=",), {"content_type": ""}),
        (("--count", "-7"), {"count": -7}),
        (("--deep",), {"deep": True}),
        (("--no-deep",), {"deep": False}),
        (("--deep=false",), {"deep": False}),
        (("--words", "a", "--words", "b", "--word", "c"), {"words": ["a", "b", "c"]}),
        (("--", "-a", "--json", "--"), {"words": ["-a", "--json", "--"]}),
        (("--header", "a=1", "--headers", "b=x=y"), {"headers": {"a": "1", "b": "x=y"}}),
        (("--count", "3", "--", "w"), {"count": 3, "words": ["w"]}),
    ],
)
def test_arguments_are_read_by_the_contract(words: tuple[str, ...], arguments: dict[str, Any]) -> None:
    assert read("test.all", *words).arguments == arguments


def test_own_options_are_read_wherever_they_stand() -> None:
    call = read("--json", "--as", "agent:a", "test.all", "--key=k", "--run", "r", "--wait", "--folder", "f", "--raw")
    assert (call.json, call.principal, call.operation, call.key, call.run) == (True, "agent:a", "test.all", "k", "r")
    assert call.wait
    assert call.raw
    assert str(call.folder) == "f"


def test_program_fills_argv_when_it_stands_after_two_hyphens() -> None:
    assert read("shell.run", "--cwd", "a", "--", "python3", "-V").arguments == {"cwd": "a", "argv": ["python3", "-V"]}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("test.all", "stray"), "`stray` is not an option"),
        (("test.all", "--contents", "x"), "did you mean `--content-type`?"),
        (("test.all", "--count", "seven"), "`--count seven` is not a whole number"),
        (("test.all", "--count", "٣"), "is not a whole number"),
        (("test.all", "--count", "1" * 5000), "is not a whole number"),
        (("test.all", "--deep=perhaps"), "is neither true nor false"),
        (("test.all", "--no-count"), "takes no `--no-count`"),
        (("test.all", "--header", "novalue"), "is not `key=value`"),
        (("test.all", "--header", "=v"), "is not `key=value`"),
        (("test.all", "--header", "a=1", "--header", "a=2"), "is given twice"),
        (("test.all", "--count", "1", "--count", "2"), "is given twice"),
        (("test.all", "--words", "a", "--", "b"), "is given twice"),
        (("test.all", "--key", "a", "--key", "b"), "is given twice"),
        (("test.all", "--content-type"), "needs a value"),
        (("test.all", "--content-type", "--", "x"), "needs a value"),
        (("files.read", "--", "x"), "takes no words after `--`"),
        (("--path", "x", "files.read"), "stands before any operation"),
        (("test.all", "--arguments", "{}", "--count", "1"), "both given"),
        (("test.all", "--arguments", "{"), "is not JSON"),
        (("test.all", "--arguments", "[]"), "is not a JSON object"),
        (("test.all", "--arguments", "[" * 100_000), "is not JSON"),
        (("test.all", "--content-type", "\udce9"), "not valid UTF-8"),
        (("--", "x"), "takes no words after `--`"),
    ],
)
def test_words_that_do_not_fit_are_refused_with_the_next_step(words: tuple[str, ...], told: str) -> None:
    error = refused(*words)
    assert error.code == "usage"
    assert told in str(error)
    assert error.hint


def test_unknown_operation_is_told_with_the_nearest_names() -> None:
    error = refused("file.raed", "--path", "x")
    assert error.code == "operation_unknown"
    assert "`files.read`" in error.hint


def test_arguments_are_read_from_json_and_from_a_file() -> None:
    def from_file(name: str) -> bytes:
        return b'{"path": "from %s"}' % name.encode()

    assert read("files.read", "--arguments", '{"path": "é"}').arguments == {"path": "é"}
    packed = read_call(("files.read", "--arguments", "@x.json"), contracts=OFFERED, read=from_file)
    assert packed.arguments == {"path": "from x.json"}


@given(
    st.lists(
        st.one_of(st.text(max_size=8), st.sampled_from(["--", "--as", "--count", "--header", "test.all", "--deep"]))
    )
)
def test_reading_never_fails_in_another_way_whatever_is_typed(words: list[str]) -> None:
    with suppress(Malformed):
        assert set(read("test.all", *words).arguments) <= {argument.name for argument in WITH_ALL.arguments}
