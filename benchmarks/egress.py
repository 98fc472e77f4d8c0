"""What the egress broker costs a confined program: throughput, and time for each keep-alive request.

Measured     one program, run confined by the process lane, reaches a server on loopback through the broker: it takes a
             large body through a tunnel, makes many small keep-alive requests through a tunnel, and as many plain ones
             (absolute URL); and it sends a large body. It times itself; the broker serves in this process.
Yardstick    the same program, run bare, straight to the same server. The arms take turns.
Target       at least 80 MB/s through the broker, and at most 0.2 ms more for a request.
Repeat       python -m benchmarks.egress [--quick]
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from assent.bootstrap.system import SystemClock
from assent.execution.adapters.process import ProcessLane
from assent.execution.attestations import ConfinementClass
from assent.execution.orders import Limits, ProcessOrder
from assent.execution.outcomes import Ending
from benchmarks.reporting import arguments, result, scratch

# A server of its own, a thread for each connection. `GET /N` answers N bytes; `POST` takes a body and answers `ok`.
SERVER = """
import socket, sys, threading
piece = bytes(1 << 20)
def serve(one):
    file = one.makefile("rb", 1 << 20)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while first := file.readline():
        length = 0
        while (line := file.readline()) not in (b"\\r\\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if first.startswith(b"POST"):
            while length > 0:
                length -= len(file.read(min(length, 1 << 20)))
            one.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
            continue
        size = int(first.split(b" ")[1].rpartition(b"/")[2])
        one.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % size + piece[: min(size, 4096)])
        left = size - min(size, 4096)
        while left > 0:
            one.sendall(piece[:left])
            left -= min(left, len(piece))
listener = socket.create_server(("127.0.0.1", 0), backlog=64)
print(listener.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
# The program: `direct` or `broker`, the port, megabytes, requests. It prints its own figures.
PROGRAM = """
import json, socket, sys, time
way, port, megabytes, requests = sys.argv[1], *map(int, sys.argv[2:5])
host = b"127.0.0.1:%d" % port
buffer = bytearray(1 << 20)
def opened(tunnel):
    one = socket.create_connection(("127.0.0.1", 3128 if way == "broker" else port))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if way == "broker" and tunnel:
        one.sendall(b"CONNECT %b HTTP/1.1\\r\\nHost: %b\\r\\n\\r\\n" % (host, host))
        assert b" 200 " in one.recv(4096)
    return one
def taken(one, size):
    head = one.recv(65536)
    while b"\\r\\n\\r\\n" not in head:
        head += one.recv(65536)
    left = size - (len(head) - head.index(b"\\r\\n\\r\\n") - 4)
    while left > 0:
        got = one.recv_into(buffer)
        assert got
        left -= got
def rate(size, work):
    began = time.perf_counter()
    work()
    return size / (time.perf_counter() - began) / 1e6
def requests_on(one, prefix):
    ask, times = b"GET %b/100 HTTP/1.1\\r\\nHost: %b\\r\\n\\r\\n" % (prefix, host), []
    for _ in range(requests):
        began = time.perf_counter()
        one.sendall(ask)
        taken(one, 100)
        times.append(time.perf_counter() - began)
    return 1e3 * sorted(times)[len(times) // 2]
size = megabytes * 1_000_000
one = opened(True)
def down():
    one.sendall(b"GET /%d HTTP/1.1\\r\\nHost: %b\\r\\n\\r\\n" % (size, host))
    taken(one, size)
def up():
    one.sendall(b"POST / HTTP/1.1\\r\\nHost: %b\\r\\nContent-Length: %d\\r\\n\\r\\n" % (host, size))
    piece = bytes(1 << 20)
    for at in range(0, size, len(piece)):
        one.sendall(piece[: size - at])
    taken(one, 2)
down_mb, up_mb = rate(size, down), rate(size, up)
tunnel_ms = requests_on(opened(True), b"")
plain_ms = requests_on(opened(False), b"http://" + host if way == "broker" else b"")
began = time.perf_counter()
for _ in range(50):
    fresh = opened(True)
    fresh.sendall(b"GET /100 HTTP/1.1\\r\\nHost: %b\\r\\n\\r\\n" % host)
    taken(fresh, 100)
    fresh.close()
fresh_ms = 1e3 * (time.perf_counter() - began) / 50
print(json.dumps(dict(down=down_mb, up=up_mb, tunnel=tunnel_ms, plain=plain_ms, fresh=fresh_ms)))
"""
Figures = dict[str, float]


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__).parse_args()
    rounds, megabytes, requests = (1, 50, 200) if options.quick else (7, 500, 2_000)
    print(__doc__)
    command = [sys.executable, "-c", SERVER]
    with (
        scratch(options.folder),
        tempfile.TemporaryDirectory(prefix="assent-bench-") as folder,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
    ):
        assert server.stdout is not None
        words = (server.stdout.readline().strip(), str(megabytes), str(requests))
        try:
            asyncio.run(_main(Path(folder).resolve(), rounds=rounds, words=words))
        finally:
            server.kill()


async def _main(folder: Path, *, rounds: int, words: tuple[str, ...]) -> None:
    lane = ProcessLane(clock=SystemClock(), state_dir=folder / "state")
    workspace = folder / "workspace"
    workspace.mkdir()
    found: dict[str, list[Figures]] = {"direct": [], "broker": []}
    try:
        for _ in range(rounds + 1):
            found["direct"].append(await asyncio.to_thread(_bare, words))
            found["broker"].append(await _confined(lane, workspace, words))
    finally:
        await lane.close()
    _report({name: figures[1:] for name, figures in found.items()})


def _bare(words: tuple[str, ...]) -> Figures:
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PROGRAM, "direct", *words], check=True, capture_output=True, text=True
    )
    figures: Figures = json.loads(ran.stdout)
    return figures


async def _confined(lane: ProcessLane, workspace: Path, words: tuple[str, ...]) -> Figures:
    order = ProcessOrder(
        argv=("python3", "-I", "-S", "-c", PROGRAM, "broker", *words),
        workspace=str(workspace),
        hosts=(f"127.0.0.1:{words[0]}",),
        limits=Limits(wall_ms=120_000, cpu_s_max=120),
    )
    outcome = await lane.carry(order, floor=ConfinementClass.NAMESPACED, on_event=lambda _event: None)
    if outcome.ending is not Ending.SUCCEEDED:
        raise RuntimeError(f"{outcome.code}: {outcome.message} {outcome.value}")
    figures: Figures = json.loads(outcome.value["stdout"])
    return figures


def _report(found: dict[str, list[Figures]]) -> None:
    def middle(name: str, figure: str) -> float:
        return statistics.median(one[figure] for one in found[name])

    def added(figure: str) -> float:
        pairs = zip(found["broker"], found["direct"], strict=True)
        return statistics.median(ours[figure] - theirs[figure] for ours, theirs in pairs)

    words: dict[str, Any] = {"down": "MB/s, taken", "up": "MB/s, sent", "tunnel": "ms, keep-alive in a tunnel",
             "plain": "ms, keep-alive plain", "fresh": "ms, new connection and request"}  # fmt: skip
    for figure, about in words.items():
        spread = [f"{min(o[figure] for o in some):,.3g}–{max(o[figure] for o in some):,.3g}" for some in found.values()]
        print(
            f"  {about:<34} direct {middle('direct', figure):9,.3f} ({spread[0]:>13})"
            f"   broker {middle('broker', figure):9,.3f} ({spread[1]:>13})"
        )
    for figure, about in (("down", "taken"), ("up", "sent")):
        result(f"{about} through the broker, direct is {middle('direct', figure):,.0f} MB/s",
               middle("broker", figure), unit="MB/s", at_least=80)  # fmt: skip
    for figure, about in (("tunnel", "in a tunnel"), ("plain", "plain")):
        result(f"added by the broker to a keep-alive request, {about}", added(figure), unit="ms", at_most=0.2)
    result("added by the broker to a new connection with one request", added("fresh"), unit="ms")


if __name__ == "__main__":
    main()
