"""A visit: one connection of the program, through a tunnel that is not looked into, or by plain requests.

On the plain way only requests are read. Their answers are moved as they come, unread: the connection onwards belongs to
this client alone and carries nothing but its requests to one host, so there is nobody whose answer could be confused
with another's. A request to another host closes that connection and opens one to there. A client that does not wait
for its answers is refused, because then nobody could tell whose bytes are whose.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from assent.execution.adapters.dialing import Dialer, Goal
from assent.execution.adapters.egress.clients import ESTABLISHED, Client, refusal
from assent.execution.adapters.egress.pumps import PIECE_BYTES, Pump
from assent.execution.adapters.egress.records import ALLOWED, Contact, Contacts, EgressLimits
from assent.execution.forwarding import ChunkedBody, ForwardRequest, parse_forward
from assent.primitives.clock import Clock
from assent.primitives.errors import Refused, Unavailable

_LINGER_S = 1.0


class House:
    """What the visits of one run share. After `end` only what the program had sent still matters."""

    def __init__(
        self, *, goal: Callable[..., Goal], dialer: Dialer, contacts: Contacts, limits: EgressLimits, clock: Clock
    ) -> None:
        self.limits, self.contacts = limits, contacts
        self.scratch = memoryview(bytearray(PIECE_BYTES))
        self.ending: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._goal, self._dialer, self._clock = goal, dialer, clock
        self._started_ns = clock.monotonic_ns()

    def end(self) -> None:
        """The program is gone."""
        if not self.ending.done():
            self.ending.set_result(None)

    def now_ms(self) -> int:
        """Since the start."""
        return (self._clock.monotonic_ns() - self._started_ns) // 1_000_000

    def note_refusal(self, code: str, reason: str) -> None:
        """Write down a connection that did not get as far as naming a host."""
        self.contacts.add(Contact(kind="none", verdict=code, reason=reason, at_ms=self.now_ms()))

    async def reach(self, request: ForwardRequest) -> Onward:
        """Open the connection onwards.

        Raises:
            Refused: the host or an address of it is not allowed, or the run has used up its bytes.
            Unavailable: nobody answers there.
        """
        kind = "tunnel" if request.tunnel else "plain"
        contact = Contact(kind=kind, host=request.host.text, port=request.port, at_ms=self.now_ms(), resolved=[])
        try:
            if not self.contacts.spend():
                raise _used_up(self.limits)
            bare = await self._dialer.connect(self._goal(host=request.host, port=request.port, note=contact))
        except (Refused, Unavailable) as error:
            contact.verdict, contact.reason = refusal(error)
            raise
        except asyncio.CancelledError:
            contact.verdict, contact.reason = "run_ended", "the run ended before it was reached"
            raise
        else:
            contact.verdict = ALLOWED
            return Onward(bare, contact, self)
        finally:
            contact.duration_ms = self.now_ms() - contact.at_ms
            self.contacts.add(contact)


class Onward:
    """An open connection to a host, and its page in the record."""

    def __init__(self, bare: socket.socket, contact: Contact, house: House) -> None:
        self.bare, self.contact, self._house = bare, contact, house
        self.serves = contact.host, contact.port

    def count_out(self, count: int) -> bool:
        """Count bytes on their way to the host; whether more may follow."""
        self.contact.bytes_out += count
        return self._house.contacts.spend(bytes_out=count)

    def count_in(self, count: int) -> bool:
        """Count bytes on their way to the program; whether more may follow."""
        self.contact.bytes_in += count
        return self._house.contacts.spend(bytes_in=count)

    async def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            TimeoutError: the host has not taken it in the idle time.
            OSError: the connection broke.
            Refused: the run has used up its bytes (`bytes_limit`).
        """
        sent = self.send_now(data)
        if sent < len(data):
            async with asyncio.timeout(self._house.limits.idle_ms / 1000):
                await asyncio.get_running_loop().sock_sendall(self.bare, data[sent:])
        if not self.count_out(len(data) - sent):
            raise _used_up(self._house.limits)

    def send_now(self, data: bytes) -> int:
        """Send what fits at once, without a timer; how much that was.

        Raises:
            OSError: the connection broke.
        """
        try:
            sent = self.bare.send(data)
        except BlockingIOError:
            return 0
        self.count_out(sent)
        return sent

    def close(self, ended: str) -> None:
        """Close it and finish its page."""
        self.bare.close()
        self.contact.ended = self.contact.ended or ended
        self.contact.duration_ms = self._house.now_ms() - self.contact.at_ms


class Visit:
    """One connection of the program, from its first request to its end."""

    def __init__(self, house: House, client: Client) -> None:
        self._house, self._client = house, client
        self._onward: Onward | None = None
        self._answers: Pump | None = None
        self._answered_at = -1  # the bytes that had come in when the last request was sent
        self._asked_at = 0.0
        self._unsent = b""
        self._timer: asyncio.TimerHandle | None = None

    async def stay(self) -> None:
        """Serve it. Raises nothing but cancellation and bugs."""
        try:
            await self._requests()
        except (Refused, Unavailable) as error:
            self._leave(error.code if error.code == "bytes_limit" else "closed")
            await self._client.refuse(*refusal(error))
        except TimeoutError:
            self._leave("idle_limit")
        except OSError:
            self._leave("broken")
        finally:
            self._leave("run_ended")

    async def _requests(self) -> None:
        while (request := await self._request()) is not None:
            if request.tunnel:
                self._leave("closed")
                await self._tunnel(request)
                return
            await self._plain(request)
        self._leave("closed")

    async def _request(self) -> ForwardRequest | None:
        """The next request, or None when there is none and the visit is over."""
        answers = self._answers
        if answers is not None:
            while not await self._client.speaks(left_s := self._left_s(answers), quick=self._quick):
                if left_s <= 0:
                    raise TimeoutError
            if self._unsent and self._onward is not None:
                unsent, self._unsent = self._unsent, b""
                await self._onward.send(unsent)
            if answers.done.done():  # the host has hung up; a request that crosses this was never sent
                return None
        try:
            head = await self._client.head()
            if head is None:
                await self._hung_up()
                return None
            self._check_waited()
            return parse_forward(head)
        except Refused as error:
            self._house.note_refusal(*refusal(error))
            raise

    def _quick(self) -> bool:
        """Serve the usual request at once: whole, without a body, to the same host, after an answer. Whether it was so.

        Whatever is unusual about it is left to be read once more, with all its cases.
        """
        onward, client = self._onward, self._client
        if onward is None or onward.contact.bytes_in == self._answered_at or self._answers_done():
            return False
        if not self._house.contacts.spend():
            return False
        try:
            head = client.head_now()
        except (Refused, OSError):
            return False
        if head is None:
            return False
        request = None if client.unread else _usual(head)
        if request is None or onward.serves != (request.host.text, request.port):
            client.put_back(head)
            return False
        self._note_asked(onward)
        try:
            self._unsent = request.head[onward.send_now(request.head) :]
        except OSError:
            self._unsent = request.head  # and sending it again says what broke
        return not self._unsent

    def _answers_done(self) -> bool:
        return self._answers is None or self._answers.done.done()

    def _note_asked(self, onward: Onward) -> None:
        onward.contact.requests += 1
        self._answered_at, self._asked_at = onward.contact.bytes_in, asyncio.get_running_loop().time()

    def _check_waited(self) -> None:
        if self._onward is not None and self._onward.contact.bytes_in == self._answered_at:
            message = "a request came before the answer to the one before it"
            self._house.note_refusal("request_refused", message)
            raise ConnectionError(message)  # a refusal in words would land in the middle of an answer

    async def _hung_up(self) -> None:
        """The program says no more, but may still be listening to the answer to its last request."""
        answers, onward = self._answers, self._onward
        if answers is None or onward is None:
            return
        with contextlib.suppress(OSError):
            onward.bare.shutdown(socket.SHUT_WR)
        while not answers.done.done() and not self._house.ending.done() and (left_s := self._left_s(answers)) > 0:
            pending = [answers.done, self._house.ending]
            await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if not answers.done.done():
            self._leave("run_ended" if self._house.ending.done() else "idle_limit")

    async def _plain(self, request: ForwardRequest) -> None:
        onward = self._onward
        if onward is None or onward.serves != (request.host.text, request.port):
            self._leave("closed")
            onward = self._onward = await self._house.reach(request)
            self._answers = self._pump(onward.bare, self._client.bare, onward.count_in)
            self._answers.done.add_done_callback(self._answers_over)
        self._note_asked(onward)
        await onward.send(request.head)
        await self._body(request, onward)

    async def _body(self, request: ForwardRequest, onward: Onward) -> None:
        left, chunked = request.length, ChunkedBody()
        while left > 0 or (request.body == "chunked" and not chunked.done):
            if not await self._client.speaks(self._house.limits.idle_ms / 1000):
                raise TimeoutError
            data = await self._client.some()
            if not data:
                raise ConnectionError("the program broke off its request")
            end = chunked.feed(data) if request.body == "chunked" else min(left, len(data))
            left -= end if request.body == "length" else 0
            self._client.unread[:0] = data[end:]
            await onward.send(data[:end])

    def _answers_over(self, _done: object) -> None:
        """The host has ended the connection, or it broke: the program gets what there was and is told so."""
        answers = self._answers
        if answers is None or answers.outcome == "stopped":
            return
        if answers.outcome == "closed":
            self._client.whole = True
            with contextlib.suppress(OSError):
                self._client.bare.shutdown(socket.SHUT_WR)
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_LINGER_S, self._stop_listening)
        else:
            self._note_end({"metered": "bytes_limit"}.get(answers.outcome, "broken"))
            self._stop_listening()

    def _stop_listening(self) -> None:
        with contextlib.suppress(OSError):
            self._client.bare.shutdown(socket.SHUT_RD)  # a wait for the program's next word ends at once

    async def _tunnel(self, request: ForwardRequest) -> None:
        onward = self._onward = await self._house.reach(request)
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self._client.bare, ESTABLISHED)
        if self._client.unread:
            await onward.send(await self._client.some())
        out = self._pump(self._client.bare, onward.bare, onward.count_out)
        back = self._pump(onward.bare, self._client.bare, onward.count_in)
        out.done.add_done_callback(lambda _: _pass_end(out, onward.bare))
        back.done.add_done_callback(lambda _: _pass_end(back, self._client.bare))
        try:
            ended = await self._both(out, back)
        finally:
            out.stop()
            back.stop()
        self._client.whole = ended == "closed"
        self._leave(ended)

    async def _both(self, out: Pump, back: Pump) -> str:
        """Wait for the end of a tunnel, and say which it was."""
        loop, idle_s = asyncio.get_running_loop(), self._house.limits.idle_ms / 1000
        while True:
            ends = {out.outcome, back.outcome}
            if ends == {"closed"}:
                return "closed"
            if "metered" in ends:
                return "bytes_limit"
            if "source" in ends or "" not in ends:
                return "broken"
            if self._house.ending.done() and out.outcome:
                return "run_ended"
            left_s = max(out.moved_at, back.moved_at) + idle_s - loop.time()
            if left_s <= 0:
                return "idle_limit"
            pending = [one for one in (out.done, back.done, self._house.ending) if not one.done()]
            await asyncio.wait(pending, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)

    def _left_s(self, answers: Pump) -> float:
        """Seconds until the connection has been idle too long."""
        now, idle_s = asyncio.get_running_loop().time(), self._house.limits.idle_ms / 1000
        return max(answers.moved_at, self._asked_at) + idle_s - now

    def _pump(self, source: socket.socket, sink: socket.socket, meter: Callable[[int], bool]) -> Pump:
        return Pump(source, sink, scratch=self._house.scratch, meter=meter)

    def _note_end(self, ended: str) -> None:
        if self._onward is not None:
            self._onward.contact.ended = self._onward.contact.ended or ended

    def _leave(self, ended: str) -> None:
        """Close the connection onwards, if there is one. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        if self._answers is not None:
            self._answers.stop()
            self._answers = None
        if self._onward is not None:
            self._onward.close(ended)
            self._onward = None


def _usual(head: bytes) -> ForwardRequest | None:
    try:
        request = parse_forward(head)
    except Refused:
        return None
    return None if request.tunnel or request.body != "none" else request


def _pass_end(pump: Pump, sink: socket.socket) -> None:
    if pump.outcome == "closed":
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


def _used_up(limits: EgressLimits) -> Refused:
    return Refused("bytes_limit", f"the run has moved {limits.bytes_max} bytes, which is all it may")
