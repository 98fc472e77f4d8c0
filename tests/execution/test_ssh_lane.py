"""The lane of a host reached by SSH, against a real sshd."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import pytest

from assent.bootstrap.system import SystemClock, SystemEntropy
from assent.execution.adapters.artefacts import ArtefactFolder
from assent.execution.adapters.ssh import Access, SshTarget
from assent.execution.adapters.ssh.lane import SshLane
from assent.execution.attestations import ConfinementClass, Known
from assent.execution.orders import FileOrder, Limits, ProcessOrder, Pty
from assent.execution.outcomes import Ending, Outcome
from assent.execution.steering import Resize, Signal
from assent.testing.conformance.lanes import HELD_BYTES_MAX, LaneCase, LaneSuite
from assent.testing.steerings import HeldSteering
from tests.execution.lane_world import DAEMON, eventually, processes_with
from tests.execution.ssh_site import SshSite

pytestmark = pytest.mark.slow
FLOOR = ConfinementClass.REMOTE_ASSERTED
CLOCK = SystemClock()
MARK = f"assent-ssh-mark-{os.getpid()}"


@pytest.fixture(scope="module")
def site() -> Iterator[SshSite]:
    site = SshSite()
    yield site
    site.close()


def program(text: str, *arguments: str, **fields: Any) -> ProcessOrder:
    return ProcessOrder(argv=("python3", "-I", "-S", "-c", text, MARK, *arguments), workspace="/here", **fields)


async def carried(access: Access, order: ProcessOrder, **more: Any) -> Outcome:
    lane = SshLane(access=access, clock=CLOCK)
    return await lane.carry(order, floor=FLOOR, on_event=more.pop("on_event", lambda _event: None), **more)


def run(access: Access, order: ProcessOrder, **more: Any) -> Outcome:
    return asyncio.run(carried(access, order, **more))


class TestSshLane(LaneSuite):
    site: ClassVar[SshSite]

    @pytest.fixture(autouse=True)
    def _at(self, site: SshSite) -> None:
        type(self).site = site

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        def deeds() -> int:
            return len(list(self.site.workspace.glob("deed-*")))

        deed = "import os; open(f'deed-{os.getpid()}', 'w').close();"
        lane = SshLane(access=self.site.access, clock=CLOCK)
        yield LaneCase(
            lane=lane,
            good=program(deed + "print('done')"),
            foreign=FileOrder(verb="read", workspace="/here", path="a"),
            malformed=program(deed, cwd="../outside"),
            deeds=deeds,
            running=lambda: len(processes_with(MARK)),
            floor=FLOOR,
            unmet=ConfinementClass.LOCAL_WEAK,
            endless=program(deed + "import time; print('begun', flush=True); time.sleep(600)"),
            flood=program(
                deed + f"import os\nfor _ in range({HELD_BYTES_MAX // 4096 * 4}): os.write(1, b'x' * 4096)",
                limits=Limits(output_bytes_max=HELD_BYTES_MAX * 5),
            ),
            flood_bytes=HELD_BYTES_MAX // 4096 * 4 * 4096,
            echo=ProcessOrder(argv=("sh", "-c", "touch deed-$$; exec cat", MARK), workspace="/here", stdin_open=True),
        )
        await lane.close()


def test_program_runs_in_the_targets_workspace_with_nothing_but_its_own_environment(site):
    order = program(
        "import os; print(os.getcwd(), sorted(os.environ)); open('made', 'w').write('x')", env={"GIVEN": "1"}
    )
    outcome = run(site.access, order)
    folder, names = outcome.value["stdout"].strip().split(" [")
    assert folder == str(site.workspace)
    assert {name.strip("' ]") for name in names.split(",")} <= {"GIVEN", "HOME", "LANG", "PATH", "LC_CTYPE"}
    assert (site.workspace / "made").read_text() == "x"


def test_everything_the_far_side_says_is_asserted_and_nothing_else(site):
    attestation = run(site.access, program("pass")).evidence.attestation
    assert attestation.confinement is FLOOR
    assert {one.known for one in attestation.properties.values()} <= {Known.ASSERTED, Known.ABSENT}
    assert attestation.properties["no-new-privileges"].known is Known.ASSERTED


def test_endings_are_told_as_they_were(site):
    def told(text: str, **fields: Any) -> tuple[Ending, str, str]:
        outcome = run(site.access, program(text, **fields))
        return outcome.ending, outcome.code, outcome.evidence.limit

    assert told("raise SystemExit(3)") == (Ending.FAILED, "exit_nonzero", "")
    assert told("import os; os.kill(os.getpid(), 9)") == (Ending.FAILED, "signalled", "")
    assert told("while True: pass", limits=Limits(cpu_s_max=1)) == (Ending.FAILED, "cpu_limit", "cpu")
    missing = run(site.access, ProcessOrder(argv=("no-such-program",), workspace="/here"))
    assert (missing.ending, missing.code) == (Ending.FAILED, "program_missing")


def test_streams_stay_apart_and_are_digested(site):
    outcome = run(site.access, program("import sys; sys.stdout.write('out'); sys.stderr.write('err')"))
    assert (outcome.value["stdout"], outcome.value["stderr"]) == ("out", "err")
    assert set(outcome.evidence.digests) == {"stdout", "stderr"}


def test_large_output_is_kept_as_an_artefact(site, tmp_path):
    size = 3_000_000
    order = program(
        f"import os\nfor _ in range({size // 1000}): os.write(1, b'x' * 1000)", limits=Limits(output_bytes_max=size)
    )
    lane = SshLane(access=site.access, clock=CLOCK, artefacts=ArtefactFolder(tmp_path, entropy=SystemEntropy()))
    outcome = asyncio.run(lane.carry(order, floor=FLOOR, on_event=lambda _event: None))
    value = outcome.value["stdout"]
    assert (outcome.code, value["bytes"], value["artefact"]) == ("ok", size, outcome.evidence.digests["stdout"])
    name = value["artefact"].removeprefix("sha256:")
    assert (tmp_path / name[:2] / name[2:]).stat().st_size == size


def test_terminal_is_a_terminal_and_can_be_resized(site):
    text = """
import os, signal
def resized(*_): os.write(1, b"size %d" % os.get_terminal_size().columns); os._exit(0)
signal.signal(signal.SIGWINCH, resized)
print("tty", os.isatty(0), os.get_terminal_size().columns, flush=True)
signal.pause()
"""

    async def body() -> Outcome:
        steering = HeldSteering()
        heard = b""

        def hear(event: Any) -> None:
            nonlocal heard
            heard += event.data
            if b"tty" in heard and b"size" not in heard:
                steering.say(Resize(rows=40, columns=132))

        return await carried(
            site.access, program(text, pty=Pty(columns=90), stdin_open=True), on_event=hear, steering=steering
        )

    outcome = asyncio.run(body())
    assert "tty True 90" in outcome.value["stdout"]
    assert "size 132" in outcome.value["stdout"]


@pytest.mark.parametrize("how", ["ends", "wall", "cancel", "output"])
def test_daemon_that_ignores_every_signal_does_not_survive(site, how):
    mark = f"{MARK}-{how}"
    after = {
        "ends": "",
        "wall": "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); import time; time.sleep(600)",
        "cancel": "import time; time.sleep(600)",
        "output": "\nwhile True: print('x' * 1000)",
    }[how]
    limits = Limits(wall_ms=1_500 if how == "wall" else 30_000, grace_ms=100, output_bytes_max=100_000)
    order = ProcessOrder(
        argv=("python3", "-I", "-S", "-c", DAEMON + after, mark), workspace="/here", limits=limits
    )  # fmt: skip

    async def body() -> Outcome | None:
        left = asyncio.Event()
        task = asyncio.ensure_future(carried(site.access, order, on_event=lambda _event: left.set()))
        if how == "cancel":
            await left.wait()
            assert processes_with(mark)
            task.cancel()
        try:
            return await task
        except asyncio.CancelledError:
            return None

    outcome = asyncio.run(body())
    code = {"ends": "ok", "wall": "wall_limit", "cancel": None, "output": "output_limit"}[how]
    assert (outcome.code if outcome else None) == code
    assert not processes_with(mark)


@pytest.mark.parametrize("victim", ["session", "client"])
def test_outcome_is_unknown_and_nothing_survives_when_the_connection_is_lost(site, victim):
    mark = f"{MARK}-{victim}"
    order = ProcessOrder(
        argv=("python3", "-I", "-S", "-c", DAEMON + "import time; time.sleep(600)", mark), workspace="/here"
    )
    killed: list[int] = []

    def kill(_event: Any) -> None:
        if not killed:
            killed.extend(site.sessions() if victim == "session" else _clients())
            for pid in killed:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    outcome = run(site.access, order, on_event=kill)
    assert killed
    assert (outcome.ending, outcome.code) == (Ending.UNKNOWN, "connection_lost")
    assert eventually(lambda: not processes_with(mark)), "a survivor on the far side"


def test_nothing_is_lost_before_it_goes_when_the_host_is_not_there(site):
    access = msgspec.structs.replace(site.access, port=1)
    outcome = run(access, program("pass"))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "target_unusable")
    assert "nothing listens" in outcome.message


def test_hosts_are_refused_because_nothing_could_limit_them_there(site):
    outcome = run(site.access, program("pass", hosts=("example.org:443",)))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "order_malformed")


def test_folder_outside_the_workspace_is_refused_behind_a_link(site):
    (site.workspace / "away").symlink_to("/")
    outcome = run(site.access, program("pass", cwd="away"))
    assert (outcome.ending, outcome.code) == (Ending.FAILED, "target_unusable")


def test_signal_reaches_the_program(site):
    async def body() -> Outcome:
        steering = HeldSteering()
        order = program("""
import signal, sys
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(7))
print("ready", flush=True)
signal.pause()
""")
        hear = lambda _event: steering.say(Signal(name="USR1"))  # noqa: E731
        return await carried(site.access, order, on_event=hear, steering=steering)

    assert asyncio.run(body()).value["exit"] == 7


def described(access: Access) -> Any:
    return asyncio.run(SshTarget(name="build", access=access, clock=CLOCK).describe())


def test_target_offers_what_its_host_says_and_for_how_long(site):
    found = described(site.access)
    assert found.held == (FLOOR,)
    assert found.reason == ""
    assert found.expires_at_ms > found.verified_at_ms


def test_target_offers_nothing_and_says_why_when_the_host_key_is_another(site):
    site.know(site.make_key("other_key").with_suffix(".pub"))
    try:
        found = described(site.access)
    finally:
        site.know(site.folder / "host_key.pub")
    assert found.held == ()
    assert "another machine" in found.reason
    assert found.offers[0].fix


def test_target_offers_nothing_and_says_why_when_the_host_key_is_not_known(site):
    (site.folder / "nobody").write_text("")
    found = described(msgspec.structs.replace(site.access, known_hosts=str(site.folder / "nobody")))
    assert (found.held, found.reason) == ((), "its host key is not known")


def test_target_offers_nothing_and_says_why_when_the_identity_is_refused(site):
    found = described(msgspec.structs.replace(site.access, identity=str(site.make_key("stranger"))))
    assert (found.held, found.reason) == ((), "it does not accept the identity")


def _clients() -> list[int]:
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()
    return [int(pid) for pid in children if Path(f"/proc/{pid}/comm").read_text(encoding="ascii") == "ssh\n"]
