"""The mechanism `user-kernel`: the container's bundle under `runsc`, whose programs speak to a kernel in user space.

It is believed only when that kernel answers for itself: its start-up messages in the log, another release and boot than
the host's, and calls missing that the host has. A `runsc` on PATH that hands the bundle to the host's kernel claims
nothing. From outside little can be read, since the programs are no processes of the host: what is read is the
supervisor's record and the uid; what the programs may reach is known by the self-test alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from assent.execution.adapters.sandboxes import attest, kernels
from assent.execution.adapters.sandboxes.container import LOW_FDS, Container, runtime_state
from assent.execution.adapters.sandboxes.launches import Launch
from assent.execution.attestations import Attestation, Known, Property
from assent.execution.orders import ProcessOrder

NAME = "user-kernel"


class UserKernel(Container):
    """Builds containers with a kernel of their own.

    Raises:
        Unavailable: there is no `runsc` on PATH.
    """

    name = NAME
    runtimes = ("runsc",)

    def attest(self, launch: Launch, order: ProcessOrder) -> Attestation:  # noqa: ARG002 - the self-test speaks for it
        """See `Mechanism.attest`."""
        told = launch.details
        inside, here = kernels.read_word(told["said"]), kernels.answers()
        proved = is_another_kernel(inside, here)
        seen = Known.OBSERVED if proved else Known.ABSENT
        set_only = Known.CONFIGURED if proved else Known.ABSENT
        properties = {
            "sentry": Property(value=f"kernel {inside.get('release', '?')}, log {inside.get('log', '?')}", known=seen),
            "files": Property(value="the bundle's mounts, by the sentry", known=set_only),
            "network": Property(value="none, by the sentry", known=set_only),
            "limits": Property(value="as ordered, by the sentry", known=set_only),
            "environment": Property(
                value="nothing inherited" if inside.get("variables") == "0" else "something inherited",
                known=Known.PROBED if proved and inside.get("variables") == "0" else Known.ABSENT,
            ),
            "tree-death": Property(value="pidfd on the sentry", known=seen),
            "user": attest.plain_user(attest.status_of(str(launch.init_pid)), told["uid"]),
            "runtime-state": runtime_state(launch),
        }
        return Attestation(mechanism=NAME, properties=properties)

    def _adapted(self, spec: dict[str, Any]) -> dict[str, Any]:
        """No Landlock in there; and the second stage says which kernel answers it."""
        return {**spec, "landlock": 0, "kernel": True}

    def _options(self) -> list[str]:
        return ["--rootless", "--ignore-cgroups", "--network=none"] if os.geteuid() else ["--network=none"]

    def _run(self, made: Path, name: str) -> list[str]:
        return ["run", "--bundle", str(made), *(f"--pass-fd={fd}:{fd}" for fd in LOW_FDS), name]


def is_another_kernel(inside: dict[str, str], here: dict[str, str]) -> bool:
    """Whether the answers from inside can only be a user-space kernel's."""
    missing = set(inside.get("missing", "none").split(",")) - set(here["missing"].split(",")) - {"none"}
    others = all(inside.get(name, "") not in ("", here[name]) for name in ("release", "boot"))
    return inside.get("log") == "gvisor" and others and bool(missing)
