"""A GraphQL server for tests: the reference implementation behind one loopback address."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from graphql import build_schema, graphql_sync

SDL = """
"A thing that is sold"
type Item { id: ID!  name: String!  price: Float  maker: Maker  broken: String! similar(first: Int!): [Item!] }
type Maker { name: String!  items: [Item!]  boss: Maker }
enum Order { CHEAP DEAR }
input Filter { name: String  max: Float  tags: [String!]  inner: Filter }
union Found = Item | Maker
type Query {
  "Items that fit"
  items(filter: Filter, order: Order = CHEAP, run: Boolean): [Item!]!
  item(id: ID!): Item
  anything: Found
  boom: String
}
type Mutation { addItem(name: String!, price: Float): Item!  addBroken(name: String!): Item!  refuse: Item }
"""


class Shop:
    """What the server holds: `asked` are the requests, `items` what was added."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.asked.append(request)
        result = graphql_sync(
            SCHEMA, request["query"], root_value=self, variable_values=request.get("variables"),
            operation_name=request.get("operationName"),
        )  # fmt: skip
        return dict(result.formatted)


SCHEMA = build_schema(SDL)


def _resolve(kind: str, name: str, resolver: Any) -> None:
    SCHEMA.type_map[kind].fields[name].resolve = resolver  # type: ignore[attr-defined]


def _fail(_: Any, __: Any, **___: Any) -> Any:
    raise ValueError("the shop is closed \x1b[31m")


def _add(shop: Shop, _: Any, *, name: str, price: float | None = None) -> dict[str, Any]:
    shop.items.append({"id": str(len(shop.items)), "name": name, "price": price, "broken": "no"})
    return shop.items[-1]


def _add_broken(shop: Shop, _: Any, *, name: str) -> dict[str, Any]:
    shop.items.append({"id": "1", "name": name})  # `broken` is null, and must not be
    return shop.items[-1]


_resolve("Query", "items", lambda shop, _, **__: shop.items)
_resolve("Query", "item", lambda shop, _, **given: next((i for i in shop.items if i["id"] == given["id"]), None))
_resolve("Query", "boom", _fail)
_resolve("Mutation", "addItem", _add)
_resolve("Mutation", "addBroken", _add_broken)
_resolve("Mutation", "refuse", _fail)


@contextmanager
def shop_site() -> Iterator[tuple[str, Shop]]:
    """A running shop and its URL."""
    shop = Shop()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["content-length"])))
            body = json.dumps(shop.answer(request)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/graphql", shop
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
