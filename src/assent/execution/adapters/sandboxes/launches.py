"""What every sandbox mechanism gives the process lane: a launched program that waits at its gate."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from typing import Any, Protocol

from assent.execution.adapters.sandboxes import warden
from assent.execution.adapters.sandboxes.gate import Gate
from assent.execution.adapters.sandboxes.streams import Streams
from assent.execution.attestations import Attestation
from assent.execution.orders import ProcessOrder
from assent.execution.steering import SignalName


class Launch:
    """A built sandbox whose program (`program_pid`) has not started yet.

    `init_pid` and `init_pidfd` are the process whose death is the death of all: the namespace's process 1, or, where
    there is no namespace, the watcher that ends only when nothing it started is left. `by_asking`: it must be asked
    to kill everybody, because killing it would not. `listener` is the way out to the egress broker, where there is one.
    """

    def __init__(
        self,
        *,
        gate: Gate,
        init_pid: int,
        init_pidfd: int,
        program_pid: int,
        by_asking: bool = False,
        listener: socket.socket | None = None,
    ) -> None:
        self.gate = gate
        self.init_pid = init_pid
        self.init_pidfd = init_pidfd
        self.program_pid = program_pid
        self.by_asking = by_asking
        self.listener = listener
        self.details: dict[str, Any] = {}

    def go(self) -> None:
        """Let the program start."""
        self.gate.say(b"G")

    def terminate(self) -> None:
        """Ask everybody inside to stop."""
        self._signal(signal.SIGTERM)

    def signal(self, name: SignalName) -> None:
        """Send a signal to the program's process group, by way of the process above it: pids are never guessed at."""
        self._signal(warden.relay_of(name))

    def kill(self, *, surely: bool = False) -> None:
        """End everybody inside; `surely` when asking the watcher has not helped."""
        self._signal(signal.SIGUSR1 if self.by_asking and not surely else signal.SIGKILL)

    def close(self) -> None:
        """Close the gate, the way out and the pidfd. Idempotent."""
        self.gate.close()
        if self.listener is not None:
            self.listener.close()
        if self.init_pidfd >= 0:
            os.close(self.init_pidfd)
            self.init_pidfd = -1

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.init_pidfd, number)


class ProgramEnds(Protocol):
    """The descriptors that become a program's standard input, output and error; ours until they are handed over."""

    inner: list[int]

    def handed_over(self) -> None:
        """Close our copies. Idempotent."""
        ...


class Mechanism(Protocol):
    """A way to build sandboxes on this node."""

    name: str

    async def launch(self, order: ProcessOrder, streams: Streams) -> Launch:
        """Build a sandbox and stop at the gate.

        Raises:
            Refused: the order cannot be carried as it is.
            Unavailable: the sandbox could not be built; nothing of the order has run.
        """
        ...

    def attest(self, launch: Launch, order: ProcessOrder) -> Attestation:
        """Read what is true of this launch now, from outside."""
        ...

    @property
    def uid(self) -> int:
        """The kernel's user of the programs it runs (for a workspace of root's, where it depends on the workspace)."""
        ...

    @property
    def alive(self) -> bool:
        """Whether what keeps this mechanism's sandboxes alive still lives."""
        ...

    async def close(self) -> None:
        """Release everything. Idempotent."""
        ...
