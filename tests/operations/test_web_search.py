"""Searching the web: what is asked, what is read of either shape, and that policy's list of hosts holds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.bootstrap.settings import blueprint, read_settings
from assent.bootstrap.settings_search import SearchSettings
from assent.execution.attestations import Attestation
from assent.execution.obligations import Obligations
from assent.execution.orders import Credential, HttpOrder
from assent.execution.outcomes import Ending, Evidence, Outcome
from assent.ledger.operations import Facts, Place
from assent.operations.runs.events import CallEnded, RunEvent
from assent.operations.web_search import RESULTS_MAX, SearchEndpoint, WebSearch, check_endpoint
from assent.primitives.errors import Malformed
from tests.execution.sites import Site, text_answer
from tests.operations.agents_house import ANN, STARTER, TENANT, agent, answered, house, line

PLACE = Place(workspace="/srv/ws")
SEARXNG = SearchEndpoint(url="https://search.example.org/search?format=json&q={query}")
BRAVE = SearchEndpoint(url="https://api.example.org/res?q={query}", shape="brave", credential="env:SEARCH_KEY")
EVIDENCE = Evidence(
    lane="http", attestation=Attestation(mechanism="none", properties={}), started_at_ms=0, ended_at_ms=0
)


def read(body: object, endpoint: SearchEndpoint = SEARXNG) -> Outcome:
    value = {"status": 200, "headers": {}, "body": body}
    return WebSearch(endpoint).read(Outcome(ending=Ending.SUCCEEDED, code="ok", value=value, evidence=EVIDENCE))


def test_search_asks_the_declared_endpoint_and_nothing_else():
    search = WebSearch(SEARXNG)
    asked = {"query": "tea & cake #1/é"}
    assert search.facts(asked, PLACE) == Facts(host="search.example.org:443", method="GET", payload_bytes=16)
    order = search.plan(asked, PLACE, Obligations(hosts=("search.example.org:443",)), "")
    assert order == HttpOrder(
        method="GET",
        url="https://search.example.org/search?format=json&q=tea%20%26%20cake%20%231%2F%C3%A9",
        hosts=("search.example.org:443",),
        headers=(("accept", "application/json"),),
        redirects_max=0,
        retries_max=2,
    )
    assert search.contract.reaches == ("search.example.org:443",)


def test_search_names_the_key_and_never_holds_it():
    order = WebSearch(BRAVE).plan({"query": "tea"}, PLACE, Obligations(), "")
    assert order.credentials == (Credential(header="x-subscription-token", handle="env:SEARCH_KEY"),)
    own = SearchEndpoint(url=SEARXNG.url, credential="env:SEARCH_KEY")
    order = WebSearch(own).plan({"query": "tea"}, PLACE, Obligations(), "")
    assert order.credentials == (Credential(header="authorization", handle="env:SEARCH_KEY", prefix="Bearer "),)


@pytest.mark.parametrize("asked", [{}, {"query": " "}, {"query": "x" * 1_001}, {"query": "x", "results": 21}])
def test_search_refuses_what_is_no_question(asked):
    with pytest.raises(Malformed) as refused:
        WebSearch(SEARXNG).plan(asked, PLACE, Obligations(), "")
    assert refused.value.code == "arguments_invalid"


@pytest.mark.parametrize(
    "url",
    ["", "https://example.org/", "https://example.org/{query}", "https://{query}.org/?q=x", "https://example.org/?q={q}",
     "https://example.org/{query}?q={query}", "https://example.org/?q={query}&r={query}", "file:///x?q={query}",
     "https://user:pw@example.org/?q={query}"],
)  # fmt: skip
def test_endpoint_is_refused_when_the_question_has_no_place_in_it(url):
    with pytest.raises(Malformed):
        check_endpoint(SearchEndpoint(url=url))


def test_both_shapes_of_answers_are_read_alike():
    searxng = {
        "query": "tea",
        "results": [
            {"title": "Tea", "url": "https://example.org/tea", "content": "A <b>drink</b> &amp; more", "score": 1.0,
             "publishedDate": "2026-01-02T00:00:00"},
            {"title": "No address", "url": "javascript:alert(1)"}, "garbage", {"title": 3},
        ],
    }  # fmt: skip
    brave = {
        "type": "search",
        "web": {
            "results": [
                {"title": "<strong>Tea</strong>", "url": "https://example.org/tea", "description": "A drink &amp; more",
                 "page_age": "2026-01-02T00:00:00"}
            ]
        },
    }  # fmt: skip
    told = {
        "results": [
            {"title": "Tea", "url": "https://example.org/tea", "words": "A drink & more", "date": "2026-01-02T00:00:00"}
        ]
    }
    assert read(msgspec.json.encode(searxng).decode()).value == told
    assert read(msgspec.json.encode(brave).decode(), BRAVE).value == told
    assert read('{"type":"search","query":{}}', BRAVE).value == {"results": []}


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", '{"results":{}}', "null", None, {"base64": "AA=="}])
def test_answer_of_another_shape_is_no_success(body):
    outcome = read(body)
    assert (outcome.ending, outcome.code, outcome.value) == (Ending.FAILED, "results_unread", {})


entries: Any = st.dictionaries(
    st.sampled_from(["title", "url", "content", "age"]),
    st.one_of(st.none(), st.integers(), st.text(max_size=9)),
    max_size=4,
)


@given(st.lists(st.one_of(entries, st.none(), st.text(max_size=3)), max_size=30))
def test_answer_is_bounded_whatever_it_holds(results):
    body = msgspec.json.encode({"results": results}).decode()
    value = read(body).value
    assert len(value["results"]) <= RESULTS_MAX
    assert all(one["url"].startswith("http") for one in value["results"])


def settings(folder: Path, text: str) -> Any:
    path = folder / "assent.toml"
    path.write_text(text, encoding="utf-8")
    return read_settings(path, login="ann")


def test_settings_declare_the_endpoint_and_then_the_tool_is_offered(tmp_path):
    url = "https://search.example.org/?q={query}"
    agents = '[models.m]\nscript = "s"\nwire = "scripted"\n[agents.a]\nmodels = ["m:x"]\ntools = ["web_search"]\n'
    (tmp_path / "s").write_text('{"lines": []}')
    read_ = settings(tmp_path, f'[search]\nurl = "{url}"\nkey = "env:K"\nshape = "brave"\nripgrep = false\n{agents}')
    assert read_.search == SearchSettings(
        endpoint=SearchEndpoint(url=url, shape="brave", credential="env:K"), ripgrep=False
    )
    assert "http.search" in {one.contract.name for one in blueprint(read_).operations}
    assert "http.search" not in {one.contract.name for one in blueprint(settings(tmp_path, "")).operations}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[search]\nurl = "https://example.org/"', "has not one `{query}`"),
        ('[search]\nurl = "ftp://example.org/?q={query}"', "ftp"),
        ('[search]\nshape = "brave"', "without a `url`"),
        ('[search]\nkey = "env:K"', "without a `url`"),
        ('[search]\nurl = "https://example.org/?q={query}"\nshape = "brav"', "did you mean `brave`"),
        ('[search]\nripgrep = "no"', "ripgrep"),
        ('[search]\nurls = "x"', "urls"),
        ('[agents.a]\nmodels = ["ollama:x"]\ntools = ["web_search"]', "`web_search` needs an endpoint"),
        ('[agents.a]\nmodels = ["ollama:x"]\ntools = ["http.search"]', "`web_search` needs an endpoint"),
    ],
)
def test_settings_tell_what_is_wrong_about_searching(text, told, tmp_path):
    with pytest.raises(Malformed) as refused:
        settings(tmp_path, text)
    assert told in refused.value.message


@pytest.mark.slow
def test_agent_searches_the_web_where_policy_lists_the_host(tmp_path: Path) -> None:
    body = msgspec.json.encode(
        {"results": [{"title": f"Tea {n}", "url": f"https://example.org/{n}", "content": "hot"} for n in range(3)]}
    )

    async def main() -> None:
        async with Site(text_answer(body)) as site:
            endpoint = SearchEndpoint(url=f"http://127.0.0.1:{site.port}/search?format=json&q={{query}}")
            worker = agent("web_search")
            script = [line("", ("web_search", {"query": "tea", "results": 2})), line("done")]
            async with house(tmp_path, worker, lines=script, others=[WebSearch(endpoint)]) as node:
                events: list[RunEvent] = []
                seen = await answered(node, "search", of=worker, events=events)
                (ended,) = [one for one in events if isinstance(one, CallEnded)]
                assert (seen.state, ended.state) == ("finished", "refused")
                assert "not on the list" in ended.text
                assert site.connections == 0
                listed = STARTER.replace('"nowhere.invalid:443"', f'"127.0.0.1:{site.port}"')
                await node.policies.activate(TENANT, listed, by=ANN)
                events.clear()
                await answered(node, "search", of=worker, events=events)
                (ended,) = [one for one in events if isinstance(one, CallEnded)]
                assert ended.text == "1. Tea 0\nhttps://example.org/0\nhot\n\n2. Tea 1\nhttps://example.org/1\nhot"
                assert site.asked[0].target == "/search?format=json&q=tea"

    asyncio.run(main())
