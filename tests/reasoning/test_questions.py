"""What a provider is asked: the same question is always the same bytes, and what cannot be said is refused.

The golden requests are pinned because the cache of a provider finds a question again by its bytes. When a change is
meant, write them down again: run this file as a program.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.bootstrap.models import wire_of
from assent.primitives.errors import Malformed
from assent.reasoning.messages import (
    BrokenCall,
    Image,
    Message,
    ModelRequest,
    Opaque,
    Part,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from tests.reasoning.wire_world import WIRES

GOLDEN = Path(__file__).parent / "golden"
PICTURE = Image(
    media_type="image/png",
    data="iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
)
KEPT: dict[str, dict[str, Any]] = {
    "anthropic": {"type": "thinking", "thinking": "hm", "signature": "c2lnbmVk"},
    "openai": {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VhbGVk"},
    "openai-chat": {"reasoning_content": "let me see"},
    "gemini": {"thoughtSignature": "c2lnbmVk"},
    "ollama": {"thinking": "well"},
}
ANSWER: dict[str, Any] = {
    "type": "object",
    "properties": {"why": {"type": "string"}, "found": {"type": "boolean"}},
    "required": ["why", "found"],
}


def rich(wire: str) -> ModelRequest:
    """A question that holds everything there is."""
    look = Tool(
        name="look", description="look at it", schema={"type": "object", "properties": {"at": {"type": "string"}}}
    )
    return ModelRequest(
        model="some-model",
        system=("be brief", "be kind"),
        tools=(look, Tool(name="go", description="go there", schema={"type": "object"})),
        messages=(
            Message(role="user", parts=(Text(text="look – ü"), PICTURE)),
            Message(
                role="assistant",
                parts=(
                    *(Opaque(wire=name, data=data) for name, data in KEPT.items()),
                    Text(text="so"),
                    ToolCall(id="call_1", name="look", arguments={"z": 1.5, "at": "ü"}),
                    BrokenCall(id="call 2", name="do.it!", raw="{", fault="it ends"),
                ),
            ),
            Message(
                role="user",
                parts=(
                    ToolResult(call="call_1", name="look", text="seen", images=(PICTURE,)),
                    ToolResult(call="call 2", name="do.it!", text="no object", failed=True),
                    Text(text="and now?"),
                ),
            ),
        ),
        output_tokens_max=512,
        temperature_milli=700,
        output=ANSWER,
    )


def golden(wire: str) -> bytes:
    said = wire_of(wire).request(rich(wire))
    head = "".join(f"{name}: {value}\n" for name, value in said.headers)
    return f"POST {said.path}\n{head}\n".encode() + said.body + b"\n"


def body_of(wire: str, **more: Any) -> dict[str, Any]:
    said = {"model": "some", "messages": (Message(role="user", parts=(Text(text="hi"),)),), **more}
    body: dict[str, Any] = json.loads(wire_of(wire).request(ModelRequest(**said)).body)
    return body


@pytest.mark.parametrize("wire", WIRES)
def test_question_stays_the_same_bytes_when_nobody_meant_a_change(wire):
    assert golden(wire) == (GOLDEN / f"{wire}.request").read_bytes()


@pytest.mark.parametrize("wire", WIRES)
def test_same_question_is_the_same_bytes_in_whichever_order_its_members_came(wire):
    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: turned(value[name]) for name in reversed(value)}
        return [turned(one) for one in value] if isinstance(value, list) else value

    request = rich(wire)
    other = msgspec.convert(turned(msgspec.to_builtins(request)), ModelRequest)
    assert wire_of(wire).request(other) == wire_of(wire).request(request)


@pytest.mark.parametrize("wire", WIRES)
def test_what_is_said_later_leaves_the_beginning_as_it_was(wire):
    """Caches hold beginnings: another turn adds to the conversation and changes nothing before it."""
    request = rich(wire)
    shorter = msgspec.structs.replace(request, messages=request.messages[:1], cache=False)
    longer = msgspec.structs.replace(request, cache=False)
    name = {"openai": "input", "gemini": "contents"}.get(wire, "messages")
    before, after = (json.loads(wire_of(wire).request(one).body) for one in (shorter, longer))
    assert after[name][: len(before[name])] == before[name]
    assert {**after, name: 0} == {**before, name: 0}


def test_anthropic_is_told_where_its_cache_may_end():
    said = wire_of("anthropic").request(rich("anthropic")).body
    marked = json.loads(said)
    assert said.count(b"cache_control") == 4  # of which there may be no more
    assert "cache_control" in marked["tools"][-1]
    assert "cache_control" in marked["system"][-1]
    assert "cache_control" in marked["messages"][-1]["content"][-1]
    assert "cache_control" in marked["messages"][-3]["content"][-1]
    assert len(body_of("anthropic", messages=(HI,) * 9)["messages"]) == 9
    assert b"cache_control" not in json.dumps(body_of("anthropic", cache=False)).encode()


def test_openai_is_led_to_one_cache_by_what_begins_alike():
    hi, there = (Message(role="user", parts=(Text(text=text),)) for text in ("hi", "there"))
    keys = [
        body_of("openai", **more)["prompt_cache_key"]
        for more in ({"messages": (hi,)}, {"messages": (there,)}, {"system": ("be brief",)}, {"model": "other"})
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3
    assert all(len(key) <= 64 for key in keys)
    assert "prompt_cache_key" not in body_of("openai", cache=False)


@pytest.mark.parametrize("wire", ["openai", "openai-chat"])
def test_openai_holds_a_model_strictly_only_to_what_it_can(wire):
    def strict(schema: dict[str, Any]) -> bool:
        body = body_of(wire, output=schema)
        form = body["text"]["format"] if wire == "openai" else body["response_format"]["json_schema"]
        return bool(form["strict"])

    assert strict(ANSWER)
    assert not strict({**ANSWER, "required": ["why"]})
    assert not strict({**ANSWER, "properties": {"why": {"type": "string", "minLength": 1}}, "required": ["why"]})
    assert not strict({"type": "string"})
    assert not strict(
        {**ANSWER, "properties": {**ANSWER["properties"], "found": {"type": "object", "properties": {"a": {}}}}}
    )


@pytest.mark.parametrize(
    ("model", "path"),
    [
        ("gemini-3-pro", "/v1beta/models/gemini-3-pro:"), ("models/gemini-3-pro", "/v1beta/models/gemini-3-pro:"),
        ("tunedModels/mine-1", "/v1beta/tunedModels/mine-1:"), ("../x", ""), ("a/b", ""), ("a?b", ""), ("a:b", ""),
        ("models/", ""), ("a b", ""),
    ],
)  # fmt: skip
def test_gemini_takes_a_name_into_its_path_only_when_it_is_one(model, path):
    request = ModelRequest(model=model, messages=(Message(role="user", parts=(Text(text="hi"),)),), stream=False)
    if path:
        assert wire_of("gemini").request(request).path == f"{path}generateContent"
    else:
        with pytest.raises(Malformed, match="name of a model"):
            wire_of("gemini").request(request)


@pytest.mark.parametrize(
    ("model", "signatures"),
    [
        ("gemini-3-pro", ["skip_thought_signature_validator", None]), ("gemini-2.5-flash", [None, None]),
        ("gemini-flash-latest", ["skip_thought_signature_validator", None]), ("gemma-4", [None, None]),
        ("gemini-99999999999-x", ["skip_thought_signature_validator", None]),
    ],
)  # fmt: skip
def test_gemini_is_told_when_nobody_signed_the_first_of_several_calls(model, signatures):
    calls = tuple(ToolCall(id=f"call_{n}", name="look", arguments={}) for n in range(2))
    user = Message(role="user", parts=(Text(text="hi"),))
    said = body_of("gemini", model=model, messages=(user, Message(role="assistant", parts=calls)))
    assert [part.get("thoughtSignature") for part in said["contents"][1]["parts"]] == signatures


def test_thought_goes_back_only_before_what_was_thought_up():
    thought = Opaque(wire="openai", data=KEPT["openai"])
    user = Message(role="user", parts=(Text(text="hi"),))
    alone = body_of("openai", messages=(user, Message(role="assistant", parts=(Text(text="a"), thought)), user))
    assert [item.get("type") for item in alone["input"]] == [None, None, None]
    before = body_of("openai", messages=(user, Message(role="assistant", parts=(thought, Text(text="a"))), user))
    assert [item.get("type") for item in before["input"]] == [None, "reasoning", None, None]


HI = Message(role="user", parts=(Text(text="hi"),))


def assistant(*parts: Part) -> dict[str, Any]:
    return {"messages": (HI, Message(role="assistant", parts=parts))}


def user(*parts: Part) -> dict[str, Any]:
    return {"messages": (Message(role="user", parts=parts),)}


def tools(*names: str, **schema: Any) -> dict[str, Any]:
    return {"tools": tuple(Tool(name=name, description="", schema=schema or {"type": "object"}) for name in names)}


UNSPEAKABLE: dict[str, dict[str, Any]] = {
    "no model": {"model": ""},
    "a model in two lines": {"model": "a\nb"},
    "a model without end": {"model": "x" * 300},
    "no message": {"messages": ()},
    "no room to answer": {"output_tokens_max": 0},
    "too hot": {"temperature_milli": 5_001},
    "too cold": {"temperature_milli": -1},
    "a tool without a name": tools(""),
    "a tool with a space": tools("look at"),
    "a tool with a long name": tools("x" * 129),
    "two tools of one name": tools("look", "look"),
    "a schema of no object": tools("look", type="string"),
    "a schema that is no number": tools("look", type="object", maximum=float("nan")),
    "a schema with a number too large": tools("look", type="object", maximum=2**60),
    "an answer without an exact schema": {"output": {"maximum": float("inf")}},
    "half a character": user(Text(text="\ud800")),
    "half a character in a tool": {"tools": (Tool(name="look", description="\udfff", schema={"type": "object"}),)},
    "an image that is none": user(Image(media_type="image/png", data="%%%")),
    "an image that is empty": user(Image(media_type="image/png", data="")),
    "an image in a result that is none": user(
        ToolResult(call="c", name="look", text="", images=(Image(media_type="image/png", data="a"),))
    ),
    "an image from the model": assistant(PICTURE),
    "a result from the model": assistant(ToolResult(call="c", name="look", text="")),
    "a call from the user": user(ToolCall(id="c", name="look", arguments={})),
    "arguments that are no JSON": assistant(ToolCall(id="c", name="look", arguments={"at": object()})),
    "arguments too deep": assistant(ToolCall(id="c", name="look", arguments=json.loads('{"a":' * 99 + "1" + "}" * 99))),
    "something kept that is no JSON": assistant(Opaque(wire="anthropic", data={"type": "thinking", "x": {1, 2}})),
}


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("what", UNSPEAKABLE)
def test_question_is_refused_when_it_holds(what, wire):
    with pytest.raises(Malformed) as raised:
        body_of(wire, **UNSPEAKABLE[what])
    assert raised.value.code == "request_unspeakable"
    assert len(str(raised.value)) < 500


def test_tools_may_have_the_names_that_each_provider_takes():
    for wire in WIRES:
        body_of(wire, **tools("a-b_C9"))
    for wire in ("gemini", "ollama"):
        body_of(wire, **tools("fs.read:all"))
        with pytest.raises(Malformed):
            body_of("openai", **tools("fs.read:all"))
    body_of("anthropic", **tools("x" * 128))
    with pytest.raises(Malformed):
        body_of("openai-chat", **tools("x" * 65))
    with pytest.raises(Malformed):
        body_of("gemini", **tools("9lives"))


def test_anthropic_is_asked_in_the_version_that_knows_what_is_asked():
    for milli, version in ((None, "2026-10-21"), (0, "2023-06-01")):
        request = msgspec.structs.replace(rich("anthropic"), temperature_milli=milli)
        assert ("anthropic-version", version) in wire_of("anthropic").request(request).headers


def test_anthropic_is_not_asked_for_more_heat_than_it_has():
    body_of("anthropic", temperature_milli=1_000)
    with pytest.raises(Malformed, match="temperature"):
        body_of("anthropic", temperature_milli=1_001)


TEXTS = st.text(max_size=8) | st.sampled_from(["look", "call_1", "\ud800", "", " "])
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OBJECTS = st.dictionaries(st.sampled_from(["type", "properties", "required", "a"]) | TEXTS, JSONS, max_size=4)
SCHEMAS = st.one_of(
    st.just({"type": "object"}), OBJECTS, st.builds(lambda more: {"type": "object", "properties": more}, JSONS)
)
IMAGES = st.builds(
    Image, media_type=st.sampled_from(["image/png", "image/webp"]), data=st.sampled_from([PICTURE.data, "", "x"])
)
PARTS = st.one_of(
    st.builds(Text, text=TEXTS),
    IMAGES,
    st.builds(ToolCall, id=TEXTS, name=TEXTS, arguments=OBJECTS),
    st.builds(BrokenCall, id=TEXTS, name=TEXTS, raw=TEXTS, fault=TEXTS),
    st.builds(ToolResult, call=TEXTS, name=TEXTS, text=TEXTS, failed=st.booleans(), images=st.tuples(IMAGES)),
    st.builds(Opaque, wire=st.sampled_from(WIRES), data=OBJECTS | st.sampled_from(list(KEPT.values()))),
)
QUESTIONS = st.builds(
    ModelRequest,
    model=TEXTS | st.just("some"),
    system=st.lists(TEXTS, max_size=2).map(tuple),
    messages=st.lists(
        st.builds(
            Message, role=st.sampled_from(["user", "assistant"]), parts=st.lists(PARTS, max_size=3).map(tuple)
        ),
        max_size=3,
    ).map(tuple),
    tools=st.lists(st.builds(Tool, name=TEXTS, description=TEXTS, schema=SCHEMAS), max_size=2).map(tuple),
    output_tokens_max=st.integers(-1, 9_999),
    temperature_milli=st.none() | st.integers(-1, 2_001),
    output=st.none() | SCHEMAS,
    cache=st.booleans(),
    stream=st.booleans(),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("wire", WIRES)
@settings(max_examples=300)
@given(request=QUESTIONS)
def test_every_question_is_spelled_or_refused(wire, request):
    said, code = None, ""
    try:
        said = wire_of(wire).request(request)
    except Malformed as malformed:
        code = malformed.code
    if said is None:
        assert code == "request_unspeakable"
    else:
        assert said.path.startswith("/")
        assert isinstance(json.loads(said.body), dict)
        assert said == wire_of(wire).request(request)


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name in WIRES:
        (GOLDEN / f"{name}.request").write_bytes(golden(name))
