"""The model server is faithful: the providers' own client libraries talk to it and understand all it says."""

from __future__ import annotations

import asyncio
import base64
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from assent.testing.models import Called, Failing, ModelServer, Reply
from assent.testing.models.replies import KEY

pytestmark = pytest.mark.slow

with warnings.catch_warnings():  # what foreign libraries say about each other while they are imported
    warnings.simplefilter("ignore")
    import anthropic
    import ollama
    import openai
    from google import genai
    from google.genai import errors as genai_errors
    from google.genai import types as genai_types

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
TWO = Reply(
    text="both", calls=(Called(name="look", arguments={"at": "ü"}), Called(name="go", arguments={"far": 3})), cached=4
)
SCHEMA = {
    "type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"], "additionalProperties": False,
}  # fmt: skip


def asked(body: Callable[[ModelServer], Awaitable[None]], *replies: Reply) -> ModelServer:
    async def whole() -> ModelServer:
        async with ModelServer(replies) as server:
            await body(server)
            return server

    return asyncio.run(whole())


@contextmanager
def quiet() -> Iterator[None]:
    """A client may leave a socket to the garbage collector; that is its business."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


# ---------------------------------------------------------------------------------------------------------- Anthropic


def claude(server: ModelServer, key: str = KEY) -> Any:
    return anthropic.AsyncAnthropic(base_url=server.url, api_key=key, max_retries=0)


def test_anthropic_client_understands_words_calls_thinking_and_usage() -> None:
    async def body(server: ModelServer) -> None:
        async with claude(server) as client:
            arguments = {
                "model": "some", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}],
                "tools": [{"name": "look", "description": "look", "input_schema": SCHEMA}],
            }  # fmt: skip
            whole = await client.messages.create(**arguments)
            async with client.messages.stream(**arguments) as stream:
                words = [text async for text in stream.text_stream]
                streamed = await stream.get_final_message()
            for said in (whole, streamed):
                assert [block.type for block in said.content] == ["thinking", "text", "tool_use", "tool_use"]
                assert [block.input for block in said.content[2:]] == [{"at": "ü"}, {"far": 3}]
                assert (said.stop_reason, said.usage.output_tokens, said.usage.cache_read_input_tokens) == (
                    "tool_use",
                    7,
                    4,
                )
            assert "".join(words) == "both"

    asked(body, Reply(text=TWO.text, calls=TWO.calls, cached=4, thinking="hm"))


def test_anthropic_client_sends_an_image_and_reads_a_refusal() -> None:
    async def body(server: ModelServer) -> None:
        async with claude(server) as client:
            picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
            said = await client.messages.create(
                model="some", max_tokens=9, messages=[{"role": "user", "content": [picture]}]
            )
            assert said.stop_reason == "refusal"

    server = asked(body, Reply(text="no", stop="refused"))
    assert server.seen[0].body["messages"][0]["content"][0]["source"]["data"] == PIXEL


@pytest.mark.parametrize(
    ("status", "error"),
    [(429, "RateLimitError"), (500, "InternalServerError"), (529, "OverloadedError"), (404, "NotFoundError")],
)
def test_anthropic_client_knows_each_failure(status: int, error: str) -> None:
    async def body(server: ModelServer) -> None:
        async with claude(server) as client:
            with pytest.raises(anthropic.APIStatusError) as raised:
                await client.messages.create(model="some", max_tokens=9, messages=[{"role": "user", "content": "hi"}])
            assert type(raised.value).__name__ in (error, "InternalServerError")
            assert raised.value.status_code == status

    asked(body, Reply(failing=Failing(status=status, retry_after="7")))


def test_anthropic_client_is_refused_without_the_key_and_hears_an_error_in_the_stream() -> None:
    async def body(server: ModelServer) -> None:
        arguments: dict[str, Any] = {
            "model": "some", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
        }  # fmt: skip
        async with claude(server, key="another") as client:
            with pytest.raises(anthropic.AuthenticationError):
                await client.messages.create(**arguments)
        async with claude(server) as client:
            with pytest.raises(anthropic.APIStatusError):
                async with client.messages.stream(**arguments) as stream:
                    await stream.get_final_message()

    asked(body, Reply(text="half of it", failing=Failing(way="error_event")))


# ------------------------------------------------------------------------------------------------------------- OpenAI


def gpt(server: ModelServer, key: str = KEY) -> Any:
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


def test_openai_client_understands_chat_completions() -> None:
    async def body(server: ModelServer) -> None:
        async with gpt(server) as client:
            arguments: dict[str, Any] = {
                "model": "some", "messages": [{"role": "user", "content": "hi"}],
                "tools": [{"type": "function", "function": {"name": "look", "parameters": SCHEMA}}],
            }  # fmt: skip
            whole = await client.chat.completions.create(**arguments)
            message = whole.choices[0].message
            assert (message.content, whole.choices[0].finish_reason) == ("both", "tool_calls")
            assert [call.function.name for call in message.tool_calls] == ["look", "go"]
            assert whole.usage.prompt_tokens_details.cached_tokens == 4
            words, calls = "", ""
            usage: Any = None
            stream = await client.chat.completions.create(
                **arguments, stream=True, stream_options={"include_usage": True}
            )
            async for chunk in stream:
                usage = chunk.usage or usage
                for choice in chunk.choices:
                    words += choice.delta.content or ""
                    calls += "".join(call.function.arguments or "" for call in choice.delta.tool_calls or ())
            assert (words, calls) == ("both", '{"at": "\\u00fc"}{"far": 3}')
            assert usage.completion_tokens == 7

    asked(body, TWO)


def test_openai_client_parses_structured_output_of_chat_completions() -> None:
    async def body(server: ModelServer) -> None:
        async with gpt(server) as client:
            said = await client.chat.completions.create(
                model="some",
                messages=[{"role": "user", "content": "where?"}],
                response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA, "strict": True}},
            )
            assert said.choices[0].message.content == '{"at": "home"}'

    asked(body, Reply(text='{"at": "home"}'))


def test_openai_client_understands_responses() -> None:
    async def body(server: ModelServer) -> None:
        async with gpt(server) as client:
            arguments: dict[str, Any] = {
                "model": "some", "input": "hi", "store": False,
                "tools": [{"type": "function", "name": "look", "parameters": SCHEMA, "strict": True}],
            }  # fmt: skip
            whole = await client.responses.create(**arguments)
            async with client.responses.stream(**arguments) as stream:
                kinds = [event.type async for event in stream]
                streamed = await stream.get_final_response()
            for said in (whole, streamed):
                assert said.output_text == "both"
                calls = [item for item in said.output if item.type == "function_call"]
                assert [(call.name, call.arguments) for call in calls] == [
                    ("look", '{"at": "\\u00fc"}'), ("go", '{"far": 3}'),
                ]  # fmt: skip
                assert (said.usage.output_tokens, said.usage.input_tokens_details.cached_tokens) == (7, 4)
            assert kinds.count("response.output_text.delta") == 2

    asked(body, TWO)


@pytest.mark.parametrize(
    ("status", "error"), [(429, openai.RateLimitError), (500, openai.InternalServerError), (404, openai.NotFoundError)]
)
def test_openai_client_knows_each_failure(status: int, error: type[Exception]) -> None:
    async def body(server: ModelServer) -> None:
        async with gpt(server) as client:
            with pytest.raises(error):
                await client.chat.completions.create(model="some", messages=[{"role": "user", "content": "hi"}])
            with pytest.raises(error):
                await client.responses.create(model="some", input="hi")
        async with gpt(server, key="another") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.responses.create(model="some", input="hi")

    asked(body, Reply(failing=Failing(status=status)))


def test_openai_client_hears_an_error_in_the_stream_and_sends_images() -> None:
    async def body(server: ModelServer) -> None:
        async with gpt(server) as client:
            url = f"data:image/png;base64,{PIXEL}"
            shown = [{"type": "image_url", "image_url": {"url": url}}]
            with pytest.raises(openai.APIError):
                async for _ in await client.chat.completions.create(
                    model="some", messages=[{"role": "user", "content": shown}], stream=True
                ):
                    pass

    server = asked(body, Reply(text="half of it", failing=Failing(way="error_event")))
    assert PIXEL in str(server.seen[0].body)


# ------------------------------------------------------------------------------------------------------------- Gemini


def gemini(server: ModelServer, key: str = KEY) -> Any:
    return genai.Client(api_key=key, http_options=genai_types.HttpOptions(base_url=server.url))


def test_gemini_client_understands_words_calls_and_usage() -> None:
    async def body(server: ModelServer) -> None:
        with quiet():
            client = gemini(server)
            tools = [{"function_declarations": [{"name": "look", "parameters_json_schema": SCHEMA}]}]
            whole = await client.aio.models.generate_content(model="some", contents="hi", config={"tools": tools})
            assert [(call.name, call.args) for call in whole.function_calls] == [
                ("look", {"at": "ü"}), ("go", {"far": 3}),
            ]  # fmt: skip
            assert whole.usage_metadata.cached_content_token_count == 4
            words, calls = "", []
            async for chunk in await client.aio.models.generate_content_stream(model="some", contents="hi"):
                parts = chunk.candidates[0].content.parts or []
                words += "".join(part.text or "" for part in parts)
                calls += [part.function_call.name for part in parts if part.function_call]
            assert (words, calls) == ("both", ["look", "go"])

    asked(body, TWO)


def test_gemini_client_sends_images_reads_structured_output_and_knows_failures() -> None:
    async def body(server: ModelServer) -> None:
        with quiet():
            client = gemini(server)
            picture = genai_types.Part.from_bytes(data=base64.b64decode(PIXEL), mime_type="image/png")
            said = await client.aio.models.generate_content(
                model="some", contents=[picture, "where?"],
                config={"response_mime_type": "application/json", "response_json_schema": SCHEMA},
            )  # fmt: skip
            assert said.text == '{"at": "home"}'
            with pytest.raises(genai_errors.APIError) as raised:
                await client.aio.models.generate_content(model="some", contents="hi")
            assert raised.value.code == 429
            with pytest.raises(genai_errors.ClientError):
                await gemini(server, key="another").aio.models.generate_content(model="some", contents="hi")

    server = asked(body, Reply(text='{"at": "home"}'), Reply(failing=Failing(status=429)))
    assert PIXEL.replace("+", "-").replace("/", "_") in str(server.seen[0].body)


# ------------------------------------------------------------------------------------------------------------- Ollama


def test_ollama_client_understands_words_calls_usage_and_failures() -> None:
    async def body(server: ModelServer) -> None:
        with quiet():
            client = ollama.AsyncClient(host=server.url, headers={"authorization": f"Bearer {KEY}"})
            messages = [{"role": "user", "content": "hi", "images": [PIXEL]}]
            whole = await client.chat(model="some", messages=messages, format=SCHEMA)
            assert (whole.message.content, whole.eval_count, whole.prompt_eval_count) == ("both", 7, 11)
            assert [(c.function.name, c.function.arguments) for c in whole.message.tool_calls or ()] == [
                ("look", {"at": "ü"}), ("go", {"far": 3}),
            ]  # fmt: skip
            words, calls = "", []
            async for part in await client.chat(model="some", messages=messages, stream=True):
                words += part.message.content or ""
                calls += [call.function.name for call in part.message.tool_calls or ()]
            assert (words, calls) == ("both", ["look", "go"])
            assert [one.model for one in (await client.list()).models] == ["some"]
            with pytest.raises(ollama.ResponseError) as raised:
                await client.chat(model="some", messages=messages)
            assert raised.value.status_code == 500

    asked(body, TWO, TWO, Reply(failing=Failing(status=500)))
