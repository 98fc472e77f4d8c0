"""The one way out: every connection of a lane or a broker is checked here before it exists.

`Dialer` takes a host in its one canonical spelling, and

1. asks the allow-list for `host:port`;
2. resolves the name once, in a thread of its own, with a time limit; `Pins` keep the answer for the length of an order
   or a run, so that a name server that changes its mind between two connections changes nothing;
3. judges *every* answer: one private address among public ones refuses the name, since a public service has no reason
   to hand out such a pair and an attacker has. A special address passes only when the allow-list names it literally,
   with the port; a name inside a company is reached by listing both the name and its address;
4. dials an address from step 3, never the name, so a second answer of the name server has nobody to give it to;
5. compares the address at the other end of the socket with the one dialled, before a byte is sent;
6. for TLS, verifies the certificate for the name, and compares it with the pinned one where there is one.

`localhost` is special: RFC 6761 reserves the name for loopback, so it is never resolved, and to list `localhost:8080`
is to list loopback in so many words. No other name, `x.localhost` included, gets there without the address being
listed.

What comes out is a connected stream (`CheckedStream`) or, for who moves bytes without looking at them, the bare socket.
Nothing here knows what is spoken on it.
"""

from __future__ import annotations

from assent.execution.adapters.dialing.dialer import CheckedStream, Dialer, Goal, Notebook, Tunnel, check_listed
from assent.execution.adapters.dialing.lookups import Pins, Resolver, system_resolver

__all__ = [
    "CheckedStream",
    "Dialer",
    "Goal",
    "Notebook",
    "Pins",
    "Resolver",
    "Tunnel",
    "check_listed",
    "system_resolver",
]
