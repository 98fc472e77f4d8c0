"""The one way out of a sandbox's network: a listening socket on its loopback, handed out before there is a program.

Runs inside. The sandbox's network namespace has a loopback that is down, and nothing else. For an order that names
hosts the jail brings it up, binds and listens, and passes the descriptor out through the gate (`N port`). The broker
accepts on it in the supervisor, outside, so nobody inside serves anything, and a killed sandbox takes the socket along.
"""

from __future__ import annotations

import fcntl
import socket
import struct

from .arrivals import Spec, Streams

ADDRESS, PORT = "127.0.0.1", 3128
_BACKLOG = 128
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914  # SIOCGIFFLAGS, SIOCSIFFLAGS
_UP = 1
_REQUEST = struct.Struct("16sh14x")


def open_doorway(spec: Spec, streams: Streams) -> None:
    """Listen, if the order names hosts. Needs CAP_NET_ADMIN in the namespace when its loopback is still down."""
    port = spec.get("broker_port", 0)
    if not port:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        _bring_up(listener)
        listener.bind((ADDRESS, port))
        listener.listen(_BACKLOG)
        socket.send_fds(streams.gate, [b"N %d" % port], [listener.fileno()])


def _bring_up(anyone: socket.socket) -> None:
    flags = _REQUEST.unpack(fcntl.ioctl(anyone, _GET_FLAGS, _REQUEST.pack(b"lo", 0)))[1]
    if not flags & _UP:
        fcntl.ioctl(anyone, _SET_FLAGS, _REQUEST.pack(b"lo", flags | _UP))
