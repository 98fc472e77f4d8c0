"""Orders: exactly what a lane is to carry, with nothing left to choose. Pure values.

An order is made by a connector from an intent and the obligations of the decision; its digest is bound into the grant,
so the order that runs is the order that was allowed.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from assent.primitives.digests import Digest, digest


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What ends a lane's work, whatever it wants. The receipt names the limit that did.

    `wall_ms` from start to end; `output_bytes_max` over all streams (or the response body); the rest for processes, of
    which `disk_bytes_max` is what all files together may grow by. `grace_ms` is the time between the polite request
    to stop and the kill.
    """

    wall_ms: int = 30_000
    output_bytes_max: int = 1_048_576
    memory_bytes_max: int = 1_073_741_824
    processes_max: int = 64
    cpu_s_max: int = 30
    file_bytes_max: int = 268_435_456
    open_files_max: int = 256
    disk_bytes_max: int = 1_073_741_824
    grace_ms: int = 500


class Pty(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A terminal of the program's own: its size in characters and what `TERM` says it is."""

    rows: int = 24
    columns: int = 80
    term: str = "xterm-256color"


class ProcessOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="process"):
    """Run one program to its end.

    `argv[0]` is a name searched on the sandbox's PATH or an absolute path inside it. `workspace` is an absolute path on
    the host, bound at the same path inside; `cwd` is relative to it. `env` is the whole environment besides the fixed
    base (PATH, HOME, LANG, TMPDIR).

    `stdin` is what standard input begins with; with `stdin_open` more may come while it runs, until it is ended. With
    `pty` the three streams are one terminal. `framing` says how output is handed up: in pieces as they come, or line by
    line, without the line's end; a line of more than `line_bytes_max` ends the run. `hosts` (`host:port`) are reached
    through the egress broker; without any there is no network at all.
    """

    argv: tuple[str, ...]
    workspace: str
    cwd: str = "."
    workspace_writable: bool = True
    stdin: bytes = b""
    stdin_open: bool = False
    pty: Pty | None = None
    framing: Literal["raw", "lines"] = "raw"
    line_bytes_max: int = 1_048_576
    env: dict[str, str] = {}
    hosts: tuple[str, ...] = ()
    limits: Limits = Limits()


class Upload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A file of the workspace as the body of a request. `path` is relative to `workspace` and never leaves it.

    `sha256` (`sha256:` and 64 hex digits) is the content that is meant; empty: whatever is there when it is sent.
    """

    workspace: str
    path: str
    sha256: str = ""


class Credential(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A secret that goes into a header of the request: `prefix` and behind it what `handle` names. Only names are in
    the order; the lane puts the value in at the last moment, for the first origin alone."""

    header: str
    handle: str
    prefix: str = ""


class HttpOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="http"):
    """One HTTP exchange, redirects included.

    `hosts` is the whole allow-list as `host:port`; an IP literal or a private address is reachable only when it is
    listed literally. The body is `body`, or the file `upload` names. `idempotency_key` is sent as the `Idempotency-Key`
    header when not empty, the same in every try.

    `retries_max` is how many times it may be tried again; more than none only where a second request has no second
    effect. `tls` names TLS settings that the lane was given (empty: its own); `tls_peer_sha256` is the digest of the
    one certificate (DER) the server may show, on top of those settings.

    `credentials` go with it to the origin of `url`, in TLS or to this machine itself, and never further.
    `reads` says that the request changes nothing whatever its method is (a question that is posted), so one that broke
    is known to have done no harm. A body of at most `shown_bytes_max` is handed back whole.
    """

    method: str
    url: str
    hosts: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    upload: Upload | None = None
    redirects_max: int = 3
    retries_max: int = 0
    idempotency_key: str = ""
    tls: str = ""
    tls_peer_sha256: str = ""
    credentials: tuple[Credential, ...] = ()
    reads: bool = False
    shown_bytes_max: int = 1_048_576
    limits: Limits = Limits()


class Lines(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Some lines of a file: `count` of them from the `first`, which is 1 for the first of the file."""

    first: int
    count: int


class Edit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is replaced: the one place where `old` stands exactly, or `every` place. With `sha256`, only in a file that
    has this digest."""

    old: bytes
    every: bool = False
    sha256: str = ""


class Search(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is looked for: lines that match `pattern`, in files that fit `glob` (empty: every file). At most `limit` of
    them, each with `context` lines before and after it. What patterns and globs there are is in `searches`."""

    pattern: str
    glob: str = ""
    ignore_case: bool = False
    context: int = 0
    limit: int = 100


class FileOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="file"):
    """One file operation beneath `workspace` (absolute, on the host). `path` is relative and never leaves it.

    `content` is what is written, or what stands in place of what is replaced. `lines` narrow a read.
    """

    verb: Literal["read", "write", "append", "edit", "delete", "list", "search", "stat", "make_folder"]
    workspace: str
    path: str
    content: bytes = b""
    recursive: bool = False
    lines: Lines | None = None
    edit: Edit | None = None
    search: Search | None = None
    limits: Limits = Limits()


class SseOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="sse"):
    """Listen to one stream of server-sent events (WHATWG HTML, section 9.2) until it ends or a limit does.

    `hosts`, `tls` and `tls_peer_sha256` as in `HttpOrder`. The lane reconnects at most `reconnects_max` times, with
    `Last-Event-ID`. It ends well when the server says so (204, or the end of the stream with no reconnection left),
    after `events_max` events, after `listen_ms` (0: only the wall limit holds), or when the asker ends the input; and
    not well after `idle_ms` without a byte.
    """

    url: str
    hosts: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    last_event_id: str = ""
    redirects_max: int = 3
    reconnects_max: int = 3
    events_max: int = 10_000
    event_bytes_max: int = 1_048_576
    listen_ms: int = 0
    idle_ms: int = 30_000
    tls: str = ""
    tls_peer_sha256: str = ""
    limits: Limits = Limits()


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One message for a WebSocket; `data` of a text is its UTF-8."""

    data: bytes
    kind: Literal["text", "binary"] = "text"


class WebSocketOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="websocket"):
    """Hold one WebSocket connection (RFC 6455): send `messages`, then what the asker sends, and hand up what comes.

    `url` is a `ws` or `wss` URL; `hosts`, `tls` and `tls_peer_sha256` as in `HttpOrder`. It ends well when the server
    closes it well, and is closed by the lane after `messages_max` messages received, after `listen_ms` (0: only the
    wall limit holds), or when the asker ends the input. The asker may say something only when it `stays_open`.

    A ping goes out every `ping_ms`; when neither its pong nor anything else comes within `pong_ms`, or no byte for
    `idle_ms`, the connection counts as lost. It is made anew at most `reconnects_max` times, and only while nothing was
    ever sent.
    """

    url: str
    hosts: tuple[str, ...]
    headers: tuple[tuple[str, str], ...] = ()
    subprotocols: tuple[str, ...] = ()
    messages: tuple[Message, ...] = ()
    stays_open: bool = False
    reconnects_max: int = 0
    messages_max: int = 10_000
    message_bytes_max: int = 1_048_576
    listen_ms: int = 0
    ping_ms: int = 20_000
    pong_ms: int = 10_000
    idle_ms: int = 60_000
    tls: str = ""
    tls_peer_sha256: str = ""
    limits: Limits = Limits()


class RpcCall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One JSON-RPC request, or a notification, to which no answer comes. `params` is JSON text; empty: none.

    `reads` says that the method changes nothing, so that a call without an answer has failed and nothing else.
    """

    method: str
    params: str = ""
    notification: bool = False
    reads: bool = False


class RpcOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="jsonrpc"):
    """Speak JSON-RPC 2.0 with one peer: a confined program on its standard streams, or an HTTP address.

    More than one call is a batch when `batch` is set, else they are sent one by one, in order. `cancel_method` is the
    notification that tells the peer to give a call up, with its id (`$/cancelRequest`); empty: it has none. `limits`
    hold for everything; those of the peer's own order do not count.
    """

    peer: ProcessOrder | HttpOrder
    calls: tuple[RpcCall, ...]
    batch: bool = False
    framing: Literal["newline", "content-length"] = "newline"
    cancel_method: str = ""
    message_bytes_max: int = 4_194_304
    limits: Limits = Limits()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts its peer reaches."""
        return self.peer.hosts


class McpOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="mcp"):
    """Call one tool of an MCP server, or list its tools: a confined program, or an HTTP address.

    `definition` is the digest of the tool's definition as it was admitted (`mcp_tools.definition_digest`); a server
    that defines the tool otherwise is not called. `reads` says that the tool changes nothing. `session` names a
    connection that is kept between calls, whoever makes it up puts the tenant into the name; empty: one for this call
    alone. `limits` hold for everything; those of the peer's own order do not count.
    """

    peer: ProcessOrder | HttpOrder
    verb: Literal["call", "list"] = "call"
    tool: str = ""
    arguments: str = "{}"
    definition: str = ""
    reads: bool = False
    session: str = ""
    message_bytes_max: int = 4_194_304
    limits: Limits = Limits()

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts its peer reaches."""
        return self.peer.hosts


class PythonOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="python"):
    """Run Python source in a jailed interpreter that was warm before.

    The value of the last expression, or of `function` called with `arguments` (JSON text: an object of keywords), is
    the result. `session` names a worker that keeps its state between calls; empty: fresh state, one interpreter a call.
    A session that was lost says so until a call starts it anew (`restart`). `preload` are modules to import before the
    source runs. `reprs`: what cannot be serialised says what it looks like, besides its type.
    """

    source: str
    workspace: str
    function: str = ""
    arguments: str = "{}"
    session: str = ""
    restart: bool = False
    reprs: bool = True
    preload: tuple[str, ...] = ()
    workspace_writable: bool = True
    env: dict[str, str] = {}
    hosts: tuple[str, ...] = ()
    limits: Limits = Limits()


class FunctionOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="function"):
    """Call one function of the host program, in its own process, unconfined.

    `function` is the operation's name, `definition` the digest of what was asked for, `arguments` JSON text: an object
    of keywords.
    """

    function: str
    definition: str
    arguments: str = "{}"
    limits: Limits = Limits()


class TerminalOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="terminal"):
    """An interactive terminal for a person, confined as any program is and recorded as asciicast v2."""

    process: ProcessOrder
    record_input: bool = False

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts the program reaches."""
        return self.process.hosts

    @property
    def limits(self) -> Limits:
        """The program's."""
        return self.process.limits


class WasmOrder(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="wasm"):
    """Run one WebAssembly module: `function` with `arguments`, or `_start` under WASI when it is empty.

    `imports` are the host modules it is granted (`wasi_snapshot_preview1`); none unless named. `module` is the digest
    of the bytes in `path`, relative to the workspace. Under WASI it sees its three streams and, when `access` says so,
    the workspace as `/`; nothing else. `fuel_max` bounds what it computes, about one for each instruction; its memory
    is the order's less what the engine needs.
    """

    workspace: str
    path: str
    module: str
    function: str = ""
    arguments: tuple[int, ...] = ()
    stdin: bytes = b""
    imports: tuple[str, ...] = ()
    access: Literal["none", "read", "write"] = "none"
    fuel_max: int = 1_000_000_000
    limits: Limits = Limits()


Order = (
    ProcessOrder
    | HttpOrder
    | FileOrder
    | SseOrder
    | WebSocketOrder
    | RpcOrder
    | McpOrder
    | PythonOrder
    | FunctionOrder
    | TerminalOrder
    | WasmOrder
)


def runs_code(order: Order) -> bool:
    """Whether carrying `order` runs anybody's code but Assent's own, so that it matters where."""
    if isinstance(order, RpcOrder | McpOrder):
        return isinstance(order.peer, ProcessOrder)
    return isinstance(order, ProcessOrder | PythonOrder | FunctionOrder | TerminalOrder | WasmOrder)


def order_digest(order: Order) -> Digest:
    """The digest a grant is bound to: over the order's sorted encoding (RFC 8785 holds: ASCII keys, integers)."""
    return digest(msgspec.json.encode(order, order="sorted"))
