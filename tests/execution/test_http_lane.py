"""The http lane against well-behaved servers: what is sent, what comes back, what the record says."""

from __future__ import annotations

import asyncio
import base64
import gzip
import ssl
import subprocess
import sys

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from assent.execution.attestations import ConfinementClass
from assent.execution.orders import FileOrder
from assent.execution.outcomes import Ending, Outcome
from assent.primitives.digests import digest
from assent.primitives.errors import InvariantBroken
from tests.execution.certificates import certificate
from tests.execution.sites import (
    Asked,
    Site,
    carried,
    http_lane,
    no_answer,
    once,
    order,
    pinned,
    raw_answer,
    text_answer,
    whole,
)

pytestmark = pytest.mark.anyio


async def test_get_succeeds_and_is_recorded_when_the_server_answers():
    answer = text_answer(b"hello", 200, "Content-Type: text/plain", "X-One: 1", "X-One: 2")
    async with Site(answer) as site, http_lane() as lane:
        outcome, seen = await carried(lane, order(f"http://127.0.0.1:{site.port}/a?b=c#d", f"127.0.0.1:{site.port}"))
    assert (outcome.ending, outcome.code) == (Ending.SUCCEEDED, "ok")
    assert outcome.value["status"] == 200
    assert outcome.value["body"] == "hello"
    assert seen == b"hello"
    assert outcome.value["headers"]["x-one"] == "1, 2"
    assert site.asked[0].target == "/a?b=c"
    facts = outcome.evidence.facts
    assert (facts["host"], facts["port"], facts["address"]) == ("127.0.0.1", site.port, "127.0.0.1")
    assert facts["resolved"] == ["127.0.0.1"]
    assert facts["status"] == 200
    assert facts["bytes_in"] > 5
    assert facts["bytes_out"] > 20
    assert [hop["verdict"] for hop in facts["hops"]] == ["allowed"]
    assert outcome.evidence.digests == {"request_body": digest(b""), "response_body": digest(b"hello")}
    attestation = outcome.evidence.attestation
    assert attestation.confinement is ConfinementClass.BUILTIN
    assert attestation.mechanism == "assent-http"
    assert attestation.properties["addresses"].value == "127.0.0.1"
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome


async def test_head_is_told_before_the_body_when_somebody_listens_for_it():
    heard: list[object] = []
    async with Site(text_answer(b"hello", 200, "Content-Type: text/plain")) as site, http_lane() as lane:
        await lane.carry(
            order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}"),
            floor=ConfinementClass.NAMESPACED,
            on_event=lambda event: heard.append(event.data),
            on_head=lambda status, fields: heard.append((status, fields["content-type"])),
        )
    assert heard == [(200, "text/plain"), b"hello"]


async def test_post_sends_body_length_and_idempotency_key_when_the_order_has_them():
    async with Site() as site:
        await once(
            order(
                f"http://127.0.0.1:{site.port}/x", f"127.0.0.1:{site.port}", method="post", body=b"{}",
                headers=(("Content-Type", "application/json"),), idempotency_key="eff_1/1",
            )
        )  # fmt: skip
    asked = site.asked[0]
    assert (asked.method, asked.body) == ("POST", b"{}")
    assert asked.headers["content-length"] == "2"
    assert asked.headers["idempotency-key"] == "eff_1/1"
    assert asked.headers["host"] == f"127.0.0.1:{site.port}"
    assert len(asked.fields) == len(asked.headers)


async def test_head_and_empty_post_end_well_when_there_is_no_body():
    async with Site(text_answer(b"")) as site:
        for method in ("HEAD", "POST", "OPTIONS", "DELETE"):
            outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", method=method))
            assert (outcome.code, outcome.value["body"]) == ("ok", "")
    assert [asked.headers.get("content-length") for asked in site.asked] == [None, "0", None, None]


async def test_body_is_base64_when_it_is_not_text():
    answers = {"/png": (b"\x89PNG\xff", ""), "/nul": (b"a\0b", ""), "/latin": ("é".encode("latin-1"), "iso-8859-1")}

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        body, charset = answers[asked.target]
        writer.write(whole(200, body, f"Content-Type: text/plain; charset={charset}"))

    async with Site(answer) as site, http_lane() as lane:
        here = f"127.0.0.1:{site.port}"
        bodies = [(await carried(lane, order(f"http://{here}{path}", here)))[0].value["body"] for path in answers]
    assert bodies[:2] == [{"base64": base64.b64encode(data).decode()} for data, _ in [*answers.values()][:2]]
    assert bodies[2] == "é"


async def test_gzip_body_is_unpacked_when_it_is_whole_and_in_several_members():
    packed = gzip.compress(b"one ", mtime=0) + gzip.compress(b"two" * 100_000, mtime=0) + b"\0\0"
    async with Site(text_answer(packed, 200, "Content-Encoding: gzip")) as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}"))
    assert outcome.value["body"] == "one " + "two" * 100_000
    assert site.asked[0].headers["accept-encoding"] == "gzip"


async def test_body_stays_packed_when_the_coding_was_not_asked_for():
    async with Site(text_answer(b"\xff\x00", 200, "Content-Encoding: br")) as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}"))
    assert outcome.value["body"] == {"base64": "/wA="}
    assert outcome.value["headers"]["content-encoding"] == "br"


@pytest.mark.parametrize(
    ("method", "status", "fields", "ending"),
    [
        ("GET", 404, (), Ending.FAILED), ("POST", 409, (), Ending.FAILED), ("POST", 500, (), Ending.FAILED),
        ("GET", 503, (), Ending.FAILED), ("POST", 502, (), Ending.UNKNOWN), ("PUT", 504, (), Ending.UNKNOWN),
        ("POST", 503, (), Ending.UNKNOWN), ("POST", 503, ("Retry-After: 5",), Ending.FAILED),
        ("DELETE", 520, (), Ending.UNKNOWN),
    ],
)  # fmt: skip
async def test_error_status_is_failed_or_unknown_when_the_server_says_no(method, status, fields, ending):
    async with Site(text_answer(b"why", status, *fields)) as site:
        outcome = await once(order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", method=method))
    assert (outcome.ending, outcome.code) == (ending, "http_status")
    assert (outcome.value["status"], outcome.value["body"]) == (status, "why")


async def test_connection_is_reused_when_allow_list_and_credentials_are_the_same():
    async with Site() as site, http_lane() as lane:
        url, here = f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}"
        mine, yours = (("Authorization", "Bearer me"),), (("Authorization", "Bearer you"),)
        outcomes = [
            (await carried(lane, what))[0]
            for what in (
                order(url, here, headers=mine), order(url, here, headers=mine), order(url, here, headers=yours),
                order(url, here, "other.test:80", headers=mine), order(url, here, headers=mine),
            )
        ]  # fmt: skip
        assert site.connections == 3
    assert [outcome.evidence.facts["hops"][0]["reused"] for outcome in outcomes] == [False, True, False, False, True]
    assert all(outcome.evidence.facts["address"] == "127.0.0.1" for outcome in outcomes)


async def test_order_finds_no_connection_when_its_own_list_lacks_the_host():
    async with Site() as site, http_lane() as lane:
        url = f"http://127.0.0.1:{site.port}/"
        await carried(lane, order(url, f"127.0.0.1:{site.port}"))
        outcome, _ = await carried(lane, order(url, "allowed.test:80"))
        assert site.connections == 1
        assert len(site.asked) == 1
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "host_refused")


async def test_connection_is_not_reused_when_the_server_closed_it():
    async with Site(raw_answer(whole(200, b"bye"))) as site, http_lane() as lane:
        for _ in range(3):
            outcome, _ = await carried(lane, order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}"))
            assert outcome.code == "ok"
        assert site.connections == 3


async def test_idle_connections_stay_few_when_many_orders_differ():
    async with Site() as site, http_lane() as lane:
        here = f"127.0.0.1:{site.port}"
        for number in range(40):
            await carried(lane, order(f"http://{here}/", here, headers=(("X-Api-Key", str(number)),)))
    assert site.most_open <= 34


async def test_cookies_are_neither_kept_nor_shown_when_a_server_sets_them():
    async with Site(text_answer(b"", 200, "Set-Cookie: session=s3cret")) as site, http_lane() as lane:
        url, here = f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}"
        outcome, _ = await carried(lane, order(url, here))
        await carried(lane, order(url, here))
    assert "cookie" not in site.asked[1].headers
    assert "s3cret" not in msgspec.json.encode(outcome).decode()


async def test_record_holds_no_credential_path_or_query_when_the_order_does():
    headers = (("Authorization", "Bearer s3cret1"), ("X-Api-Key", "s3cret2"), ("Cookie", "s3cret3"))
    async with Site(text_answer(b"no", 401)) as site:
        url = f"http://127.0.0.1:{site.port}/s3cret4?token=s3cret5"
        outcome = await once(order(url, f"127.0.0.1:{site.port}", headers=headers))
    assert site.asked[0].headers["authorization"] == "Bearer s3cret1"
    assert "s3cret" not in msgspec.json.encode(outcome).decode()


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"])
async def test_proxy_is_ignored_when_the_environment_names_one(name, monkeypatch):
    async with Site() as proxy, Site() as site:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        resolver = pinned(allowed_test=["127.0.0.1"])
        hosts = (f"allowed.test:{site.port}", f"127.0.0.1:{site.port}")
        outcome = await once(order(f"http://allowed.test:{site.port}/", *hosts), resolver=resolver)
        assert (outcome.code, proxy.connections, site.connections) == ("ok", 0, 1)
    assert site.asked[0].target == "/"


async def test_localhost_is_loopback_without_a_resolver_when_it_is_listed():
    async with Site() as site:
        resolver = pinned(localhost=["8.8.8.8"])
        outcome = await once(order(f"http://LOCALHOST.:{site.port}/", f"localhost:{site.port}"), resolver=resolver)
    assert outcome.code == "ok"
    assert outcome.evidence.facts["address"] == "127.0.0.1"
    assert site.asked[0].headers["host"] == f"localhost:{site.port}"


async def test_cancelling_lets_go_of_a_read_and_calls_a_write_unknown():
    async with Site(no_answer(lambda: site.over)) as site, http_lane() as lane:
        tasks = []
        for method in ("GET", "POST"):
            what = order(f"http://127.0.0.1:{site.port}/", f"127.0.0.1:{site.port}", method=method)
            async with asyncio.timeout(5), asyncio.TaskGroup() as group:
                tasks.append(group.create_task(carried(lane, what)))
                await site.arrived.wait()
                tasks[-1].cancel()
            site.arrived.clear()
        assert [asked.method for asked in site.asked] == ["GET", "POST"]
    read, write = tasks
    assert read.cancelled()
    outcome, _ = write.result()
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "cancelled")


async def test_lane_raises_when_it_gets_an_order_of_another_lane():
    async with http_lane() as lane:
        with pytest.raises(InvariantBroken):
            await lane.carry(
                FileOrder(verb="read", workspace="/", path="a"),
                floor=ConfinementClass.LOCAL_WEAK, on_event=lambda _: None,
            )  # fmt: skip


@pytest.fixture
def tls_pair(tmp_path):
    """A server context, a client context that trusts it, and the certificate in DER."""
    public, private = certificate("allowed.test", "127.0.0.1")
    (tmp_path / "pair.pem").write_bytes(public + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "pair.pem")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(cadata=public.decode())
    return server, client, x509.load_pem_x509_certificate(public).public_bytes(serialization.Encoding.DER)


async def test_tls_peer_is_recorded_when_its_certificate_is_trusted(tls_pair):
    server, client, der = tls_pair
    async with Site(tls=server) as site, http_lane(tls=client, resolver=pinned(allowed_test=["127.0.0.1"])) as lane:
        hosts = (f"allowed.test:{site.port}", f"127.0.0.1:{site.port}")
        for reused in (False, True):
            outcome, _ = await carried(lane, order(f"https://allowed.test:{site.port}/", *hosts))
            assert outcome.code == "ok"
            assert outcome.evidence.facts["tls_peer_sha256"] == digest(der)
            assert outcome.evidence.facts["hops"][0]["reused"] is reused


@pytest.mark.parametrize("name", ["allowed.test", "other.test"])
async def test_server_is_unreachable_when_its_certificate_does_not_prove_its_name(name, tls_pair):
    server, client, _ = tls_pair
    resolver = pinned(allowed_test=["127.0.0.1"], other_test=["127.0.0.1"])
    trusted = {} if name == "allowed.test" else {"tls": client}
    async with Site(tls=server) as site:
        what = order(f"https://{name}:{site.port}/", f"{name}:{site.port}", f"127.0.0.1:{site.port}", method="POST")
        outcome = await once(what, resolver=resolver, **trusted)
        assert site.asked == []
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "unreachable")
    assert "certificate" in outcome.message


async def test_server_is_unreachable_when_it_does_not_speak_tls():
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        here = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        outcome = await once(order(f"https://{here}/", here, method="POST"))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "unreachable")


async def test_server_is_unreachable_when_the_port_is_closed_or_the_name_unknown():
    async with Site() as site:
        port = site.port
    for url in (f"http://127.0.0.1:{port}/", f"http://nobody.test:{port}/"):
        what = order(url, f"127.0.0.1:{port}", f"nobody.test:{port}", method="POST")
        outcome = await once(what, resolver=pinned())
        assert (outcome.ending, outcome.code) == (Ending.FAILED, "unreachable")


@pytest.mark.slow
def test_import_loads_no_http_library_until_the_first_order():
    program = (
        "import sys, assent.execution.adapters.http as h\n"
        "assert hasattr(h, 'HttpLane')\n"
        "print(sorted(m for m in sys.modules if m.split('.')[0] in ('httpx2', 'httpcore2', 'anyio', 'h11')))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
