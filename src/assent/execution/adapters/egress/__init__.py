"""The egress broker: how a confined program reaches the hosts it may reach, and nothing else.

The sandbox has a network of its own in which there is one thing: a listening socket on its loopback. The jail bound it
before the program existed and handed the descriptor out; the broker accepts on it here, in the supervisor's event
loop, in the host's network. No process and no unix socket of ours is inside, and a killed sandbox leaves nothing.

What comes is read as a forward proxy reads it (`forwarding`): `CONNECT host:port`, or HTTP/1.1 with an absolute URL.
Every connection onwards is made by `dialing`, with the order's own allow-list and the run's own pinned answers. Nothing
inside resolves names. What goes through a tunnel is not read: the names are checked, the content is not.

Its limits are named (`EgressLimits`), each connection ends in its record (`Contacts`), and it ends with the run.
"""

from __future__ import annotations

from assent.execution.adapters.egress.broker import Broker
from assent.execution.adapters.egress.records import EgressLimits

__all__ = ["Broker", "EgressLimits"]
