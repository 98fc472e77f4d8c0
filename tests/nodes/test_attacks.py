"""Peers that are not what they should be: strangers, thieves, forgers, replayers, and those who only take up room."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from assent.execution.adapters.guest import Authority, Membership, join
from assent.execution.adapters.guest.authority import HUB_NAME
from assent.execution.adapters.guest.wire import Lost, Peer
from assent.execution.attestations import ConfinementClass
from assent.execution.guests import (
    PIECE_BYTES_MAX,
    VERSION,
    Beat,
    Claim,
    Ended,
    Enrol,
    Frame,
    FromHub,
    Given,
    Hello,
    Over,
    Piece,
    Refusal,
    Ticket,
    TicketState,
    Waiting,
    Welcome,
    objection,
    signed_offers,
    signed_ticket,
)
from assent.execution.orders import ProcessOrder
from assent.execution.outcomes import Ending
from assent.primitives.errors import Malformed, Refused, Unavailable
from assent.primitives.ids import NodeId
from assent.primitives.leases import Fence
from assent.testing.lanes import ScriptedLane
from assent.testing.steerings import HeldSteering
from tests.nodes.house import ACME, CLOCK, House, opened_house

pytestmark = pytest.mark.slow
RUN = ProcessOrder(argv=("true",), workspace="/here")
Body = Callable[[House], Awaitable[None]]


@pytest.fixture
def in_house(tmp_path: Path, sandbox: Path) -> Callable[..., None]:
    def run(body: Body, **more: int) -> None:
        async def whole() -> None:
            async with opened_house(tmp_path, sandbox=sandbox, **more) as house:
                await body(house)

        asyncio.run(whole())

    return run


def hello(member: Membership) -> Hello:
    return Hello(
        version=VERSION, offers=b"[]", signature=member.sign(signed_offers(b"[]")), lanes=("process",), slots=1
    )


async def welcomed(house: House, member: Membership) -> tuple[Peer, Welcome]:
    """A connection that speaks the protocol by hand."""
    peer = await member.connect(house.address)
    await peer.send(hello(member))
    welcome = await peer.receive(Welcome, within_s=10)
    return peer, welcome


async def bare(house: House, context: ssl.SSLContext) -> Peer:
    reader, writer = await asyncio.open_connection("127.0.0.1", house.port, ssl=context, server_hostname=HUB_NAME)
    return Peer(reader, writer)


def any_hub() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


# Strangers


def test_stranger_without_a_certificate_is_not_served(in_house):
    async def body(house: House) -> None:
        member = await house.joined()
        peer = await bare(house, any_hub())
        await peer.send(hello(member))
        assert await peer.receive(Refusal, within_s=10) == Refusal(why="stranger")
        await peer.close()

    in_house(body)


async def _turned_away(house: House, certificate: Path, first: Frame) -> None:
    """Show a certificate and speak; the hub has no word for it."""
    context = any_hub()
    context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    peer = await bare(house, context)  # in TLS 1.3 a client hears of its own certificate after the handshake
    try:
        await peer.send(first)
        answer = await peer.receive(FromHub, within_s=10)
    except Lost:
        answer = Refusal(why="stranger")
    finally:
        await peer.close()
    assert answer == Refusal(why="stranger")


def test_certificate_of_another_authority_is_not_served(in_house, tmp_path):
    async def body(house: House) -> None:
        member = await house.joined()
        Authority(tmp_path / "other", clock=CLOCK)
        await _turned_away(house, tmp_path / "other" / "hub.crt", hello(member))

    in_house(body)


def test_hubs_own_certificate_is_no_guests(in_house, tmp_path):
    async def body(house: House) -> None:
        await _turned_away(house, tmp_path / "keys" / "hub.crt", hello(await house.joined()))

    in_house(body)


def test_removed_guest_is_not_served_with_the_certificate_it_had(in_house):
    async def body(house: House) -> None:
        member = await house.joined()
        await house.book.remove(name="lab")
        peer = await member.connect(house.address)
        await peer.send(hello(member))
        assert await peer.receive(FromHub, within_s=10) == Refusal(why="stranger")
        await house.joined()  # another one under the same name: the old key stays out
        again = await member.connect(house.address)
        await again.send(hello(member))
        assert await again.receive(FromHub, within_s=10) == Refusal(why="stranger")
        for one in (peer, again):
            await one.close()

    in_house(body)


def test_offers_that_somebody_else_signed_are_refused(in_house):
    async def body(house: House) -> None:
        member, other = await house.joined(), await house.joined("other")
        peer = await member.connect(house.address)
        await peer.send(msgspec.structs.replace(hello(member), signature=other.sign(signed_offers(b"[]"))))
        assert await peer.receive(FromHub, within_s=10) == Refusal(why="stranger")
        await peer.close()

    in_house(body)


def test_guest_believes_no_hub_but_its_own(in_house, tmp_path, sandbox):
    async def body(house: House) -> None:
        member = await house.joined()
        async with opened_house(_made(tmp_path / "foreign"), sandbox=sandbox) as foreign:
            with pytest.raises(Lost):
                await member.connect(foreign.address)
            with pytest.raises(Refused, match="not the hub that invited us"):
                await join(tmp_path / "new", hub=foreign.address, token=await house.invited("new"))

    in_house(body)


# Invitations


def test_token_lets_one_in_once(in_house, tmp_path):
    async def body(house: House) -> None:
        token = await house.invited()
        await join(tmp_path / "one", hub=house.address, token=token)
        with pytest.raises(Refused, match="used, withdrawn or too old"):
            await join(tmp_path / "two", hub=house.address, token=token)
        with pytest.raises(Malformed, match="no membership"):
            Membership(tmp_path / "two")

    in_house(body)


def test_token_lets_one_in_once_when_many_use_it_at_once(in_house, tmp_path):
    async def body(house: House) -> None:
        token = await house.invited()
        tried = [join(tmp_path / str(number), hub=house.address, token=token) for number in range(6)]
        ended = await asyncio.gather(*tried, return_exceptions=True)
        assert sum(isinstance(one, Membership) for one in ended) == 1
        assert sum(isinstance(one, Refused) for one in ended) == 5

    in_house(body)


@pytest.mark.parametrize("token", ["", "x", "assent-guest.lab.00.11", "assent-guest.lab." + "0" * 32 + "." + "g" * 64])
def test_token_that_is_none_is_refused_before_anybody_is_asked(tmp_path, token):
    with pytest.raises(Malformed, match="not an invitation's token"):
        asyncio.run(join(tmp_path, hub="127.0.0.1:1", token=token))


def test_hub_that_is_not_there_is_told(tmp_path):
    token = "assent-guest.lab." + "0" * 32 + "." + "0" * 64
    with pytest.raises(Unavailable, match="no connection came about"):
        asyncio.run(join(tmp_path, hub="127.0.0.1:1", token=token))


def test_request_for_another_key_or_none_is_refused(in_house):
    async def body(house: House) -> None:
        token = await house.invited()
        _, name, secret, _ = token.split(".")
        for request in (b"", b"\x30\x00", _request_of_rsa()):
            peer = await bare(house, any_hub())
            await peer.send(Enrol(version=VERSION, name=name, secret=secret, request=request))
            assert await peer.receive(Refusal, within_s=10) == Refusal(why="request")
            await peer.close()
        await join(house.folder / "guest-lab", hub=house.address, token=token)  # it was not used up by them

    in_house(body)


# Claims


def test_one_claim_wins_when_two_connections_and_another_guest_make_it(in_house):
    async def body(house: House) -> None:
        member, other = await house.joined(), await house.joined("other")
        older, _ = await welcomed(house, member)
        newer, _ = await welcomed(house, member)
        stranger, _ = await welcomed(house, other)
        asking = asyncio.ensure_future(house.carry(RUN))
        waiting = await newer.receive(Waiting, within_s=20)
        claim = Claim(tenant=waiting.tenant, ticket=waiting.ticket)
        await stranger.send(claim)
        assert isinstance(await stranger.receive(FromHub, within_s=10), Over)
        with pytest.raises(Lost):  # the newer connection took its place
            await _answer(older, claim)
        older.cut()
        await newer.send(claim)
        await newer.send(claim)
        assert isinstance(await newer.receive(FromHub, within_s=10), Given)
        assert isinstance(await newer.receive(FromHub, within_s=10), Over)
        for peer in (newer, stranger):
            await peer.close()
        outcome = await asking
        assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "guest_lost")

    in_house(body)


def test_end_of_a_ticket_that_is_somebody_elses_changes_nothing(in_house):
    async def body(house: House) -> None:
        member, other = await house.joined(), await house.joined("other")
        peer, _ = await welcomed(house, member)
        thief, _ = await welcomed(house, other)
        asking = asyncio.ensure_future(house.carry(RUN))
        waiting = await peer.receive(Waiting, within_s=20)
        await peer.send(Claim(tenant=ACME, ticket=waiting.ticket))
        await _given(peer)
        await thief.send(Ended(tenant=ACME, ticket=waiting.ticket, outcome=b"{}", signature=b""))
        await thief.receive(FromHub, within_s=10)
        standing = await house.book.standing(ACME, waiting.ticket)
        assert standing is not None
        assert standing.state is TicketState.CLAIMED
        await asyncio.wait([asking], timeout=1)  # a false end would be heard by the asker within that
        assert not asking.done()
        await peer.send(Ended(tenant=ACME, ticket=waiting.ticket, outcome=b"{}", signature=b"forged"))
        outcome = await asking
        assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "guest_unproved")
        for one in (peer, thief):
            await one.close()

    in_house(body, lease_ms=30_000)  # these peers have no heart


# Tickets, as a guest takes them


class _Heard:
    """A link that keeps what was said over it."""

    def __init__(self) -> None:
        self.ends: list[Ended] = []

    def put(self, frame: object) -> None: ...

    async def send(self, frame: object) -> None: ...

    def ended(self, frame: Ended) -> None:
        self.ends.append(frame)


def ticket_for(house: House, **changed: object) -> Ticket:
    now_ms = CLOCK.now_ms()
    whole = Ticket(
        id=house.ids.grant(), tenant=ACME, effect=house.ids.effect(), attempt=1, guest="lab", order=RUN,
        floor=ConfinementClass.REMOTE_ASSERTED, fence=house.fence, issued_at_ms=now_ms, expires_at_ms=now_ms + 20_000,
    )  # fmt: skip
    return msgspec.structs.replace(whole, **changed)


def given(house: House, ticket: Ticket) -> Given:
    data = msgspec.json.encode(ticket)
    return Given(data=data, signature=house.authority.sign_ticket(data))


def test_guest_runs_nothing_that_is_forged_replayed_expired_or_anothers(in_house):
    async def body(house: House) -> None:
        member = await house.joined()
        lane = ScriptedLane("process", clock=CLOCK)
        async with house.serving(member, lane=lane) as work:
            link, good = _Heard(), given(house, ticket_for(house))
            assert work.take(good, link)
            await _until(lambda: lane.carried == 1 and bool(link.ends))
            assert work.take(good, link), "replayed: refused, and not answered a second time"
            late = given(house, ticket_for(house, expires_at_ms=CLOCK.now_ms() - 1))
            anothers = given(house, ticket_for(house, guest="other"))
            assert work.take(late, link)
            assert work.take(anothers, link)
            assert not work.take(Given(data=good.data, signature=b"\0" * 64), link)
            assert not work.take(Given(data=good.data.replace(b"true", b"evil"), signature=good.signature), link)
            forged = member.sign(signed_ticket(good.data))
            assert not work.take(Given(data=good.data, signature=forged), link), "signed by the guest itself"
            await asyncio.sleep(0.2)
            assert lane.carried == 1
            assert len(link.ends) == 3
        async with house.serving(member, lane=lane) as work:  # and after a restart
            assert work.take(good, _Heard())
            await asyncio.sleep(0.2)
            assert lane.carried == 1

    in_house(body)


def test_objections_are_made_in_the_order_in_which_they_matter(tmp_path):
    ticket = Ticket(
        id="gra_1", tenant=ACME, effect="eff_1", attempt=1, guest="lab", order=RUN,  # type: ignore[arg-type]
        floor=ConfinementClass.NAMESPACED, fence=Fence(node=NodeId("n"), number=1),
        issued_at_ms=0, expires_at_ms=10,
    )  # fmt: skip
    assert objection(ticket, guest="lab", now_ms=9, used=False) == ""
    assert "another guest" in objection(ticket, guest="x", now_ms=99, used=True)
    assert "too old" in objection(ticket, guest="lab", now_ms=10, used=True)
    assert "used before" in objection(ticket, guest="lab", now_ms=9, used=True)


# Those who only take up room


@pytest.mark.parametrize(
    "bytes_",
    [
        b"",
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 2**31),
        struct.pack(">I", 2) + b"{}",
        struct.pack(">I", 9) + b"\xff" * 9,
    ],
)
def test_garbage_ends_its_own_connection_and_no_other(in_house, bytes_):
    async def body(house: House) -> None:
        member = await house.joined()
        good, _ = await welcomed(house, member)
        garbage = await bare(house, any_hub())
        garbage._writer.write(bytes_)
        with contextlib.suppress(OSError):
            await garbage._writer.drain()
            if not bytes_:
                garbage._writer.write_eof() if garbage._writer.can_write_eof() else garbage.cut()
        with contextlib.suppress(OSError):
            assert await garbage._reader.read(100) == b""
        garbage.cut()
        await good.send(Beat())
        assert isinstance(await good.receive(FromHub, within_s=10), Beat)
        await good.close()

    in_house(body)


def test_silent_and_half_open_connections_are_given_up(in_house):
    async def body(house: House) -> None:
        member = await house.joined()
        silent = socket.create_connection(("127.0.0.1", house.port))  # never says a word of TLS
        peer, _ = await welcomed(house, member)  # and this one never beats
        with pytest.raises(Lost):
            await peer.receive(FromHub, within_s=20)
        guest = await house.book.guest("lab")
        assert guest is not None
        assert not guest.alive
        silent.close()
        peer.cut()

    in_house(body, lease_ms=1_000)


def test_guest_that_sends_more_output_than_was_asked_for_is_turned_out(in_house):
    async def body(house: House) -> None:
        member = await house.joined()
        peer, _ = await welcomed(house, member)
        asking = asyncio.ensure_future(house.carry(RUN, steering=HeldSteering(room=False)))
        waiting = await peer.receive(Waiting, within_s=20)
        await peer.send(Claim(tenant=ACME, ticket=waiting.ticket))
        await _given(peer)
        with pytest.raises(Lost):
            await _answer(peer, *[Piece(ticket=waiting.ticket, stream="stdout", data=b"x" * PIECE_BYTES_MAX)] * 64)
        peer.cut()
        assert (await asking).code == "guest_lost"

    in_house(body)


async def _given(peer: Peer) -> Given:
    """The order that was claimed; that it waits may be announced once more before."""
    while not isinstance(frame := await peer.receive(FromHub, within_s=10), Given):
        assert isinstance(frame, Waiting), frame
    return frame


async def _answer(peer: Peer, *frames: Frame) -> object:
    for frame in frames:
        await peer.send(frame)
    return await peer.receive(FromHub, within_s=10)


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 (a condition of somebody else's)
            await asyncio.sleep(0.01)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _request_of_rsa() -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
