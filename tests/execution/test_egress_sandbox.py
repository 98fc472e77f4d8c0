"""Confined programs and the broker: real programs reach what their order names, and attack the rest."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import socket
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.components import need
from tests.execution.lane_world import DAEMON, eventually, processes_with

QUICK = {"wall_ms": 20_000}
WAYS_OUT = {
    "curl": "curl -sS {url}",
    "curl through a tunnel": "curl -sSp {url}",
    "wget": "wget -qO- {url}",
    "python": "python3 -c \"import urllib.request as u; print(u.urlopen('{url}').read().decode(), end='')\"",
}


class World(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        if self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"begun\n")
            self.server.over.wait(20)  # type: ignore[attr-defined]
            self.close_connection = True
            return
        body = b"x" * int(self.path[2:]) if self.path.startswith("/=") else b"hello\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.server.asked.append(f"{self.path} {len(body)}")  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """A host of the world outside, on a loopback address, which counts who comes."""

    daemon_threads = True

    def __init__(self, address: str, port: int = 0) -> None:
        super().__init__((address, port), World)
        self.asked: list[str] = []
        self.over = threading.Event()
        self.port: int = self.server_address[1]
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def end(self) -> None:
        self.over.set()
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def hosts(self) -> list[str]:
        return [f"allowed.test:{self.port}", f"127.0.0.1:{self.port}"]


@pytest.fixture
def site():
    server = Server("127.0.0.1")
    yield server
    server.end()


def egress(outcome):
    return outcome["evidence"]["facts"]["egress"]


def properties(outcome):
    return outcome["evidence"]["attestation"]["properties"]


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS_OUT.values(), ids=WAYS_OUT.keys())
def test_program_reaches_a_listed_host_when_it_knows_proxies(lane, place, site, way):
    need("curl", "wget")
    command = way.format(url=f"http://allowed.test:{site.port}/it")
    outcome = lane.run(place.order("sh", "-c", command, hosts=site.hosts, limits=QUICK))
    assert (outcome["code"], outcome["value"]["stdout"]) == ("ok", "hello\n"), outcome["value"]["stderr"]
    assert site.asked == ["/it"]
    (contact,) = egress(outcome)["connections"]
    assert (contact["host"], contact["port"], contact["address"]) == ("allowed.test", site.port, "127.0.0.1")
    assert (contact["verdict"], contact["bytes_in"] > 6) == ("allowed", True)


def test_class_is_namespaced_and_the_network_is_named_when_hosts_are_listed(lane, place, site):
    outcome = lane.run(place.order("true", hosts=site.hosts))
    assert (outcome["code"], outcome["class"]) == ("ok", "namespaced")
    seen = properties(outcome)
    assert seen["network"] == {"value": "broker only", "known": "observed"}
    assert seen["egress"]["value"] == "names and addresses checked, content not inspected (2 listed)"
    assert seen["syscall-program"]["known"] == seen["landlock"]["known"] == "probed"  # attacked on its own
    assert egress(outcome) == {
        "broker": "ended", "connections": [], "left_out": 0, "verdicts": {}, "bytes_out": 0, "bytes_in": 0,
    }  # fmt: skip


def test_network_is_none_and_no_broker_is_there_when_no_host_is_listed(lane, place):
    outcome = lane.run(place.python("import os; print(sorted(n for n in os.environ if 'proxy' in n.lower()))"))
    assert outcome["value"]["stdout"] == "[]\n"
    assert properties(outcome)["network"]["value"] == "none"
    assert "egress" not in properties(outcome)
    assert "egress" not in outcome["evidence"]["facts"]


def test_program_is_told_where_the_broker_is_when_hosts_are_listed(lane, place, site):
    outcome = lane.run(place.order("env", hosts=site.hosts))
    told = dict(line.split("=", 1) for line in outcome["value"]["stdout"].splitlines())
    assert {told[name] for name in ("http_proxy", "HTTPS_PROXY", "ALL_PROXY")} == {"http://127.0.0.1:3128"}
    assert (told["NO_PROXY"], told["no_proxy"]) == ("", "")


# What a program may try besides asking the broker. Each prints `won` when it gets anywhere.
ATTACKS = """
import errno, json, os, socket, sys, ctypes
target = json.loads(sys.argv[1])
def tcp(address, port, family=socket.AF_INET):
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.settimeout(0.3)
        one.connect((address, port))
def udp(address, port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", (address, port))
def kind(*what):
    socket.socket(*what).close()
def listen_tcp():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.bind(("127.0.0.1", 0)); one.listen()
def steal_the_port():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        one.bind(("127.0.0.1", 3128)); one.listen()
def path_socket():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(target["path"])
def fast_open():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        one.settimeout(0.3)
        one.sendto(b"x", socket.MSG_FASTOPEN, ("127.0.0.1", target["port"]))
def resolve(name):
    socket.getaddrinfo(name, 80)
def raise_loopback():
    import fcntl, struct
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        fcntl.ioctl(one, 0x8914, struct.pack("16sh14x", b"lo", 0))
def add_route():
    import fcntl, struct
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        fcntl.ioctl(one, 0x890B, b"\\0" * 120)
attacks = {
    "host loopback": lambda: tcp("127.0.0.1", target["port"]),
    "other loopback": lambda: tcp("127.0.0.2", target["port"]),
    "interface": lambda: tcp(target["interface"], target["port"]),
    "any": lambda: tcp("0.0.0.0", target["port"]),
    "outside": lambda: tcp("192.0.2.1", 80),
    "metadata": lambda: tcp("169.254.169.254", 80),
    "broker's port elsewhere": lambda: tcp("127.0.0.2", 3128),
    "ipv6 loopback": lambda: tcp("::1", target["port"], socket.AF_INET6),
    "ipv6 broker": lambda: tcp("::1", 3128, socket.AF_INET6),
    "udp": lambda: udp("127.0.0.1", target["port"]),
    "udp 53": lambda: udp("127.0.0.1", 53),
    "udp 53 outside": lambda: udp("192.0.2.1", 53),
    "raw": lambda: kind(socket.AF_INET, socket.SOCK_RAW, 1),
    "icmp": lambda: kind(socket.AF_INET, socket.SOCK_DGRAM, 1),
    "packet": lambda: kind(socket.AF_PACKET, socket.SOCK_RAW, 0),
    "netlink": lambda: kind(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "multipath tcp": lambda: kind(socket.AF_INET, socket.SOCK_STREAM, 262),
    "sctp": lambda: kind(socket.AF_INET, socket.SOCK_STREAM, 132),
    "vsock": lambda: kind(40, socket.SOCK_STREAM, 0),
    "unix": lambda: kind(socket.AF_UNIX, socket.SOCK_STREAM, 0),
    "unix path": path_socket,
    "alg": lambda: kind(38, socket.SOCK_SEQPACKET, 0),
    "listen": listen_tcp,
    "steal the broker's port": steal_the_port,
    "fast open": fast_open,
    "dns": lambda: resolve("allowed.test"),
    "dns of an attacker": lambda: resolve("secret.evil.test"),
    "loopback down": raise_loopback,
    "route": add_route,
}
for name, attack in attacks.items():
    try:
        attack()
        print("won", name)
    except OSError as error:
        print("lost", name, error)
"""


@pytest.mark.slow
def test_nothing_else_is_reached_when_a_program_has_a_broker(lane, place, site):
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", site.port))
    udp.setblocking(False)
    path = place.workspace / "socket"
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(path))
    unix.listen()
    path.chmod(0o777)
    target = json.dumps({"port": site.port, "interface": _interface(), "path": str(path)})
    outcome = lane.run(place.python(ATTACKS, target, hosts=site.hosts, limits=QUICK))
    lines = outcome["value"]["stdout"].splitlines()
    assert len(lines) == 29, outcome["value"]["stderr"]
    assert [line for line in lines if line.startswith("won")] == []
    assert site.asked == []
    with pytest.raises(BlockingIOError):
        udp.recv(10)
    for one in (udp, unix):
        one.close()


def _interface() -> str:
    """An address of this machine that is not loopback, if it has one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        for _number, name in socket.if_nameindex():
            try:
                found = fcntl.ioctl(one, 0x8915, struct.pack("16s24x", name.encode()))[20:24]  # SIOCGIFADDR
            except OSError:
                continue
            if name != "lo":
                return socket.inet_ntoa(found)
    return "127.0.0.3"


ASKS = """
import socket, sys
for line in sys.stdin.buffer.read().split(b"\\n\\n"):
    with socket.create_connection(("127.0.0.1", 3128)) as one:
        one.sendall(line.replace(b"|", b"\\r\\n") + b"\\r\\n\\r\\n")
        one.settimeout(5)
        print(one.recv(65536).split(b"\\r\\n")[0].decode("latin-1"))
"""


@pytest.mark.slow
def test_hostile_words_are_refused_when_a_program_speaks_to_the_broker_itself(lane, place, site):
    port = site.port
    hosts = [f"{name}:{port}" for name in ("allowed.test", "metadata.test", "mapped.test", "translated.test")]
    said = [f"CONNECT {host}:{port} HTTP/1.1" for host in (
        "other.test", "127.1", "2130706433", "0x7f000001", "127.0.0.1", "[::ffff:127.0.0.1]", "metadata.test",
        "mapped.test", "translated.test", "localhost", "localhost\0.allowed.test", "user@allowed.test",
        "\uff11\uff12\uff17.0.0.1", "allowed.test")]  # fmt: skip
    said += [f"GET http://allowed.test:{port}/ HTTP/1.1|Host: other.test", "GET / HTTP/1.1|Host: allowed.test"]
    order = place.python(ASKS, hosts=hosts, limits=QUICK)
    order["stdin"] = _base64("\n\n".join(said).encode())
    outcome = lane.run(order)
    answers = outcome["value"]["stdout"].splitlines()
    assert len(answers) == len(said)
    assert {answer.split(" ")[1] for answer in answers} <= {"400", "403"}
    assert site.asked == []
    assert sum(egress(outcome)["verdicts"].values()) == len(said)
    assert egress(outcome)["verdicts"]["address_refused"] == 4  # the last: loopback itself is not listed this time


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.slow
def test_rebinding_changes_nothing_when_a_program_connects_twice(lane, place):
    first = Server("127.0.0.1")
    second = Server("127.0.0.2", first.port)
    hosts = [f"rebound.test:{first.port}", f"127.0.0.1:{first.port}", f"127.0.0.2:{first.port}"]
    url = f"http://rebound.test:{first.port}/"
    try:
        outcome = lane.run(
            place.order("sh", "-c", f"for n in 1 2 3; do curl -s {url}; done", hosts=hosts, limits=QUICK)
        )
    finally:
        first.end()
        second.end()
    assert outcome["value"]["stdout"] == "hello\n" * 3
    assert sorted((len(first.asked), len(second.asked))) == [0, 3]


@pytest.mark.slow
def test_two_runs_share_nothing_when_they_run_at_once(lane, place):
    one, two = Server("127.0.0.1"), Server("127.0.0.1")
    command = (
        f"for p in {one.port} {two.port}; do curl -s -o /dev/null -w '%{{http_code}} ' http://allowed.test:$p/; done"
    )
    try:
        answer = lane.carry(*(place.order("sh", "-c", command, hosts=each.hosts, limits=QUICK) for each in (one, two)))
    finally:
        one.end()
        two.end()
    first, second = answer["outcomes"]
    assert (first["value"]["stdout"], second["value"]["stdout"]) == ("200 403 ", "403 200 ")
    for outcome, each in ((first, one), (second, two)):
        assert [(c["port"], c["verdict"]) for c in egress(outcome)["connections"] if c["verdict"] == "allowed"] == [
            (each.port, "allowed")
        ]


@pytest.mark.slow
def test_what_a_program_sent_at_the_last_moment_arrives_when_it_has_ended(lane, place, site):
    program = f"""
import os, socket
s = socket.create_connection(("127.0.0.1", 3128))
s.sendall(b"CONNECT allowed.test:{site.port} HTTP/1.1\\r\\n\\r\\n")
s.recv(1000)
s.sendall(b"POST /last HTTP/1.1\\r\\nContent-Length: 100000\\r\\n\\r\\n" + b"x" * 100000)
os._exit(0)
"""
    outcome = lane.run(place.python(program, hosts=site.hosts, limits=QUICK))
    assert outcome["code"] == "ok"
    assert eventually(lambda: site.asked == ["/last 100000"])


@pytest.mark.slow
def test_tree_and_sockets_are_gone_when_a_run_is_cut_off_in_the_middle(lane, place, site, marker):
    slow = f"curl -sN http://allowed.test:{site.port}/slow"
    program = f"{DAEMON}\nos.execvp('sh', ['sh', '-c', '{slow} & {slow}'])"
    before = lane.carry(place.order("true"))["open_files"]
    limits = {"wall_ms": 3_000, "grace_ms": 100}
    answer = lane.carry(place.python(program, marker, hosts=site.hosts, limits=limits))
    (outcome,) = answer["outcomes"]
    assert outcome["code"] == "wall_limit"
    assert processes_with(marker) == []
    assert [one["ended"] for one in egress(outcome)["connections"]] == ["run_ended"] * 2
    assert egress(outcome)["broker"] == "ended"
    assert answer["open_files"] == before


@pytest.mark.slow
def test_connections_end_when_a_run_is_cancelled(lane, place, site, marker):
    command = f"echo {marker} >/dev/null; curl -sN http://allowed.test:{site.port}/slow"
    before = lane.carry(place.order("true"))["open_files"]
    answer = lane.carry(place.order("sh", "-c", command, hosts=site.hosts, limits=QUICK), on_output="cancel")
    assert answer["cancelled"] == [True]
    assert processes_with(marker) == []
    assert lane.carry(place.order("true"))["open_files"] == before


@pytest.mark.slow
def test_nothing_is_left_when_the_supervisor_is_killed_with_its_broker(mortal_lane, place, site, marker):
    command = f"echo begun; echo {marker} >/dev/null; curl -sN http://allowed.test:{site.port}/slow; sleep 600"
    mortal_lane.tell(
        do="carry", orders=[place.order("sh", "-c", command, hosts=site.hosts, limits={"wall_ms": 600_000})],
        floor="namespaced", announce=True,
    )  # fmt: skip
    assert mortal_lane.answer()["heard"].startswith("begun")
    assert eventually(lambda: site.asked == ["/slow"])
    mortal_lane.kill()
    assert eventually(lambda: processes_with(marker) == [])


@pytest.mark.slow
def test_many_connections_of_a_program_are_bounded_and_counted(lane, place, site):
    program = f"""
import socket
def asked(s):
    try:
        s.sendall(b"CONNECT allowed.test:{site.port} HTTP/1.1\\r\\n\\r\\n")
        return s.recv(12)[9:]
    except OSError:
        return b"reset"
held = [socket.create_connection(("127.0.0.1", 3128)) for _ in range(150)]
print([asked(s) for s in held].count(b"200"))
"""
    outcome = lane.run(place.python(program, hosts=site.hosts, limits=QUICK))
    assert outcome["value"]["stdout"] == "64\n"
    assert egress(outcome)["verdicts"] == {"allowed": 64, "connections_limit": 86}
    assert egress(outcome)["left_out"] == 86 - 64


@pytest.mark.slow
@pytest.mark.parametrize("mechanism", ["confined", "local-weak"])
def test_order_with_hosts_is_refused_when_the_mechanism_gives_no_network_of_its_own(lane, place, site, mechanism):
    place.own(65_534 if os.geteuid() == 0 and lane.uid == 0 else lane.uid)
    outcome = lane.run(place.order("true", hosts=site.hosts), floor="local-weak", mechanism=mechanism)
    assert (outcome["ending"], outcome["code"]) == ("failed", "confinement_unmet"), outcome["message"]
    assert site.asked == []


@pytest.mark.slow
@pytest.mark.parametrize(("mechanism", "package"), [("bubblewrap", "bubblewrap"), ("container", "runc")])
def test_other_mechanism_holds_a_program_to_its_hosts(lane, place, site, mechanism, package):
    need(package)
    as_root = os.geteuid() == 0 and lane.uid == 0
    if mechanism == "container":
        place.own(65_534 if as_root else lane.uid)
    command = f"curl -sS http://allowed.test:{site.port}/; curl -sS http://other.test/"
    outcome = lane.run(place.order("sh", "-c", command, hosts=site.hosts, limits=QUICK), mechanism=mechanism)
    if mechanism == "bubblewrap" and as_root:
        assert outcome["code"] == "sandbox_failed"  # it is never used as root
        return
    assert outcome["code"] == "ok", outcome["message"]
    assert outcome["value"]["stdout"].startswith("hello\negress refused (host_refused)")
    assert properties(outcome)["network"] == {"value": "broker only", "known": "observed"}
    assert properties(outcome)["syscall-program"]["known"] == "probed"
    assert outcome["class"] == {"bubblewrap": "namespaced", "container": "container"}[mechanism]


def test_order_is_refused_when_a_host_of_its_list_is_none(lane, place):
    for host in ("allowed.test", "*.test:80", "http://allowed.test:80", "127.1:80"):
        outcome = lane.run(place.order("true", hosts=[host]))
        assert (outcome["ending"], outcome["code"]) == ("failed", "allow_list_malformed")


def test_listener_of_a_run_is_gone_with_the_run(lane, place, site):
    lane.run(place.order("true", hosts=site.hosts))
    inside = [line.split()[3] for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
              if line.split()[1].endswith(":0C38")]  # fmt: skip
    assert "0A" not in inside  # and it never was in the host's own network
