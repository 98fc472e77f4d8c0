"""Searching the web: `http.search` asks the one endpoint that the settings declare. Pure.

It belongs to the `http` connector, so the rules about hosts hold for it as for any other exchange: whoever declares an
endpoint lists its host in the policy too. Two shapes of answers are read, that of SearXNG (its JSON format) and that of
Brave's web search; what comes of either is the same: titles, URLs and a few words of each page.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from assent.execution.attestations import ConfinementClass
from assent.execution.obligations import Obligations
from assent.execution.orders import Credential, HttpOrder
from assent.execution.outcomes import Ending, Outcome
from assent.execution.urls import parse_url
from assent.ledger.connectors.http import host_port
from assent.ledger.connectors.unobserved import Unobserved
from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract, read_arguments
from assent.ledger.operations import Facts, Place
from assent.primitives.errors import Malformed
from assent.reasoning.pages import readable

NAME = "http.search"
QUERY_BYTES_MAX = 1_000
RESULTS_MAX = 20
TITLE_CHARACTERS_MAX = 200
WORDS_CHARACTERS_MAX = 500
URL_CHARACTERS_MAX = 2_000
RETRIES = 2
PLACE_OF_QUERY = "{query}"

Shape = Literal["searxng", "brave"]
SHAPES: tuple[Shape, ...] = ("searxng", "brave")
_KEYS = {"searxng": ("authorization", "Bearer "), "brave": ("x-subscription-token", "")}


class SearchEndpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the web is searched: a URL with `{query}` in its query part, the shape of its answers, and the handle of
    its key (empty: it wants none)."""

    url: str
    shape: Shape = "searxng"
    credential: str = ""


def check_endpoint(endpoint: SearchEndpoint) -> str:
    """The endpoint's host, as `host:port`.

    Raises:
        Malformed: `search_endpoint`: it has no place for the question, or not in its query part; `url_refused` and its
            like, as for every URL.
    """
    path, mark, query = endpoint.url.partition("?")
    if not mark or query.count(PLACE_OF_QUERY) != 1 or "{" in path:
        raise Malformed(
            "search_endpoint",
            f"`{endpoint.url[:200]}` has not one `{PLACE_OF_QUERY}`, in its query part",
            hint="write one like `https://search.example.org/search?format=json&q={query}`",
        )
    return host_port(parse_url(_url(endpoint, "x")))


class WebSearch(Unobserved):
    """Search the web at one endpoint."""

    def __init__(self, endpoint: SearchEndpoint) -> None:
        self._endpoint = endpoint
        self._host = check_endpoint(endpoint)
        self.contract = OperationContract(
            name=NAME,
            summary="search the web; titles, URLs and a few words of each page are told",
            effect=EffectClass.READ,
            idempotency=Idempotency.NATURAL,
            arguments=(
                Argument(
                    name="query", kind="text", help="what to search for", required=True, authority=True,
                    bytes_max=QUERY_BYTES_MAX,
                ),
                Argument(
                    name="results", kind="integer", help=f"how many results to tell at most, up to {RESULTS_MAX}",
                    default=10,
                ),
            ),
            floor=ConfinementClass.LOCAL_WEAK,
            reaches=(self._host,),
        )  # fmt: skip

    def facts(self, arguments: dict[str, Any], place: Place) -> Facts:  # noqa: ARG002 (the protocol's)
        """The endpoint's host, and how much it is told."""
        return Facts(host=self._host, method="GET", payload_bytes=len(self._given(arguments)["query"].encode()))

    @property
    def handles(self) -> tuple[str, ...]:
        """What its credentials are called."""
        return (self._endpoint.credential,) if self._endpoint.credential else ()

    def plan(
        self,
        arguments: dict[str, Any],
        place: Place,  # noqa: ARG002 (the protocol's)
        obligations: Obligations,
        key: str,  # noqa: ARG002 (a search changes nothing)
    ) -> HttpOrder:
        """The order for the http lane. Raises Malformed: `arguments_invalid`."""
        header, prefix = _KEYS[self._endpoint.shape]
        handle = self._endpoint.credential
        return HttpOrder(
            method="GET",
            url=parse_url(_url(self._endpoint, self._given(arguments)["query"])).text,
            hosts=obligations.hosts,
            headers=(("accept", "application/json"),),
            redirects_max=0,
            retries_max=RETRIES,
            credentials=(Credential(header=header, handle=handle, prefix=prefix),) if handle else (),
            limits=obligations.limits,
        )

    def read(self, outcome: Outcome) -> Outcome:
        """The results, whatever shape they came in; or that it is none."""
        try:
            found = _results(outcome.value.get("body"))
        except Malformed as malformed:
            return msgspec.structs.replace(
                outcome, ending=Ending.FAILED, code=malformed.code, message=malformed.message, value={}
            )
        return msgspec.structs.replace(outcome, value={"results": found})

    def _given(self, arguments: dict[str, Any]) -> dict[str, Any]:
        given = read_arguments(self.contract, arguments)
        if not given["query"].strip() or not 1 <= given["results"] <= RESULTS_MAX:
            raise Malformed("arguments_invalid", f"`query` is not empty, and `results` is 1 to {RESULTS_MAX}")
        return given


def _url(endpoint: SearchEndpoint, query: str) -> str:
    return endpoint.url.replace(PLACE_OF_QUERY, quote(query, safe=""))


def _results(body: object) -> list[dict[str, str]]:
    try:
        answer = msgspec.json.decode(body) if isinstance(body, str) else None
    except msgspec.MsgspecError as error:
        raise _unread("it is no JSON") from error
    match answer:
        case {"results": list(entries)} | {"web": {"results": list(entries)}}:
            told = [_result(entry) for entry in entries[:RESULTS_MAX] if isinstance(entry, dict)]
            return [one for one in told if one["url"]]
        case {"type": "search"}:  # Brave leaves a kind of result out when there is none
            return []
        case _:
            raise _unread("it is neither SearXNG's nor Brave's")


def _result(entry: Mapping[str, Any]) -> dict[str, str]:
    url = _text(entry, "url")
    found = {
        "title": readable(_text(entry, "title"))[:TITLE_CHARACTERS_MAX],
        "url": url if url.startswith(("https://", "http://")) and len(url) <= URL_CHARACTERS_MAX else "",
        "words": readable(_text(entry, "content", "description"))[:WORDS_CHARACTERS_MAX],
        "date": _text(entry, "publishedDate", "page_age", "age")[:40],
    }
    return {name: text for name, text in found.items() if text or name == "url"}


def _text(entry: Mapping[str, Any], *names: str) -> str:
    return next((entry[name] for name in names if isinstance(entry.get(name), str)), "")


def _unread(why: str) -> Malformed:
    return Malformed("results_unread", f"the answer of the search endpoint cannot be read: {why}")
