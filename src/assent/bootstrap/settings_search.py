"""How files and the web are searched.

[search]  url, key, shape: the endpoint that `web_search` asks; ripgrep: whether files are searched with it
"""

from __future__ import annotations

import msgspec

from assent.bootstrap.settings_text import Document, near, quoted
from assent.operations.web_search import NAME, SHAPES, SearchEndpoint, check_endpoint
from assent.primitives.errors import Malformed
from assent.reasoning.agents import AgentDefinition

SEARCH_KEYS = ("url", "key", "shape", "ripgrep")
_TOOLS = ("web_search", NAME)


class SearchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoint (None: the web is not searched), and whether ripgrep is used where the machine has it."""

    endpoint: SearchEndpoint | None = None
    ripgrep: bool = True


def read_search(document: Document) -> SearchSettings:
    """How things are searched, by a document; what is wrong is added to its faults."""
    document.only(("search",), SEARCH_KEYS)
    ripgrep = document.flag(("search", "ripgrep"), default=True)
    url, key = document.text(("search", "url"), default=""), document.text(("search", "key"), default="")
    shape = next((one for one in SHAPES if one == document.text(("search", "shape"), default=SHAPES[0])), None)
    if shape is None:
        written = document.text(("search", "shape"), default="")
        document.fault(("search", "shape"), f"`{quoted(written)}` is not a shape of answers{near(written, SHAPES)}")
    if not url:
        for name in ("key", "shape"):
            if document.has(("search", name)):
                document.fault(("search", name), f"a `{name}` without a `url` is of no use")
        return SearchSettings(ripgrep=ripgrep)
    endpoint = SearchEndpoint(url=url, shape=shape or SHAPES[0], credential=key)
    try:
        check_endpoint(endpoint)
    except Malformed as malformed:
        document.fault(("search", "url"), str(malformed))
        return SearchSettings(ripgrep=ripgrep)
    return SearchSettings(endpoint=endpoint, ripgrep=ripgrep)


def check_tools(document: Document, agents: tuple[AgentDefinition, ...], search: SearchSettings) -> None:
    """Find the agents that are to search the web where nothing says how."""
    for agent in agents:
        if search.endpoint is None and any(tool in _TOOLS for tool in agent.tools):
            message = "`web_search` needs an endpoint: declare its `url` under `[search]`"
            document.fault(("agents", agent.name, "tools"), message)
