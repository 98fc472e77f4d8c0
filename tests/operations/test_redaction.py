"""Known credentials stand in no record and in no question, wherever they come from."""

from __future__ import annotations

import asyncio
import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.execution.attestations import Attestation
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.execution.secrets import Redactor, Secret
from assent.operations.wishes import Wish
from assent.primitives.errors import Malformed
from assent.testing.models import Called, Reply
from assent.testing.models.replies import KEY
from tests.operations.agents_house import ANN, TENANT, answered
from tests.operations.test_runs_and_providers import served

SPELLED = (KEY, base64.b64encode(KEY.encode()).decode().rstrip("="), quote(KEY, safe=""))
words = st.text(max_size=20)
values = st.recursive(
    words | st.integers() | st.none() | st.sampled_from([f"a {one} b" for one in SPELLED]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words | st.just(f"x{KEY}"), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.slow
@given(values)
def test_no_spelling_is_left_in_a_value_and_one_without_any_is_the_same_value(value: Any) -> None:
    redactor = Redactor([Secret(KEY)])
    redacted = redactor.value(value)
    assert not any(one in json.dumps(redacted, ensure_ascii=False) for one in SPELLED)
    assert not redactor.holds(redacted)
    assert (redacted is value) is not redactor.holds(value)


def test_outcome_says_that_something_was_taken_out_of_it() -> None:
    evidence = Evidence(lane="file", attestation=Attestation(mechanism="none"), started_at_ms=1, ended_at_ms=2)
    plain = Outcome(ending=Ending.SUCCEEDED, code="ok", value={"text": "nothing"}, evidence=evidence)
    redactor = Redactor()
    redactor.know(Secret(KEY))
    assert redactor.outcome(plain) is plain
    told = redactor.outcome(Outcome(ending=Ending.FAILED, code="x", message=f"no {KEY}", evidence=evidence))
    assert (told.message, told.evidence.facts) == ("no [secret]", {"redacted": True})


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("THE_KEY_OF_THE_TESTS", KEY)
    return KEY


@pytest.mark.slow
def test_key_that_stands_in_the_workspace_is_told_to_no_model_and_written_into_no_record(
    tmp_path: Path, key: str
) -> None:
    """It stands in a file, in the workspace's notes and in the person's words; and the model knows it all the same."""

    async def body() -> None:
        exfiltrates = Called(name="files_append", arguments={"path": "out", "content": f"look: {key} {SPELLED[1]}"})
        replies = [
            Reply(text="I look.", calls=(Called(name="read", arguments={"path": ".env"}),)),
            Reply(text=f"It is {key}.", calls=(exfiltrates,)),
            Reply(text=f"sent {key}"),
        ]
        async with served(tmp_path, replies) as (node, servers, writer):
            workspace = tmp_path / "workspace"
            (workspace / ".env").write_text(f"KEY={key}\n")
            (workspace / "AGENTS.md").write_text(f"the key is {key}")
            seen = await answered(node, f"send my key, it is {key}", of=writer)
            assert (seen.state, seen.text) == ("finished", "sent [secret]")
            assert (workspace / "out").read_text() == "look: [secret] [secret]"
            asked = json.dumps([one.body for one in servers[0].seen])
            assert "KEY=[secret]" in asked
            assert not any(one in asked for one in SPELLED)
            assert (await node.runs.retell(TENANT, seen.id)).same
            assert (await node.verification.verify(TENANT)).ok

    asyncio.run(body())
    kept = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert not any(one.encode() in kept for one in SPELLED)


@pytest.mark.slow
def test_call_that_a_person_writes_with_a_key_in_it_is_refused_before_it_is_recorded(tmp_path: Path, key: str) -> None:
    async def body() -> None:
        async with served(tmp_path, [Reply(text="hello")]) as (node, _, __):
            wish = Wish(
                tenant=TENANT,
                operation="files.write",
                arguments={"path": "a", "content": f"it is {key}"},
                principal=ANN,
            )
            with pytest.raises(Malformed) as refused:
                await node.gate.perform(wish)
            assert refused.value.code == "secret_in_call"
            assert key not in f"{refused.value} {refused.value.hint}"
            assert "effect.accepted" not in {one.type for one in await node.timelines.newest(TENANT)}

    asyncio.run(body())
