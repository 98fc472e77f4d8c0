"""The lane that hands orders on to a guest does whatever a lane must do, and says who observed what."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from assent.execution.attestations import ConfinementClass, Known
from assent.execution.guests import key_name
from assent.execution.orders import FileOrder, Limits, ProcessOrder
from assent.execution.outcomes import Ending
from assent.testing.conformance.lanes import HELD_BYTES_MAX, LaneCase, LaneSuite
from tests.execution.lane_world import processes_with
from tests.nodes.house import GrantedLane, House, opened_house

pytestmark = pytest.mark.slow
MARK = f"assent-guest-mark-{os.getpid()}"
FLOOR = ConfinementClass.REMOTE_ASSERTED
Body = Callable[[House], Awaitable[None]]


def sh(text: str, **fields: Any) -> ProcessOrder:
    return ProcessOrder(argv=("sh", "-c", text, MARK), workspace="/here", **fields)


class TestGuestLane(LaneSuite):
    @pytest.fixture(autouse=True)
    def _at(self, tmp_path: Path, sandbox: Path) -> None:
        self.folder, self.sandbox = tmp_path, sandbox

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[LaneCase]:
        async with opened_house(self.folder, sandbox=self.sandbox) as house, house.serving(await house.joined()):
            workspace = self.folder / "guest-lab" / "workspace"
            flood = HELD_BYTES_MAX // 4096 * 2 * 4096
            yield LaneCase(
                lane=GrantedLane(house),
                good=sh("touch deed-$(cat /proc/sys/kernel/random/uuid)"),
                foreign=FileOrder(verb="read", workspace="/here", path="a"),
                malformed=sh("touch deed", cwd="../outside"),
                deeds=lambda: len(list(workspace.glob("deed*"))),
                running=lambda: len(processes_with(MARK)),
                floor=FLOOR,
                unmet=ConfinementClass.BUILTIN,
                endless=sh("echo begun; exec sleep 600"),
                flood=sh(f"head -c {flood} /dev/zero", limits=Limits(output_bytes_max=flood * 2)),
                flood_bytes=flood,
                echo=sh("exec cat", stdin_open=True),
            )


@pytest.fixture
def in_house(tmp_path: Path, sandbox: Path) -> Callable[[Body], None]:
    def run(body: Body) -> None:
        async def whole() -> None:
            async with opened_house(tmp_path, sandbox=sandbox) as house, house.serving(await house.joined()):
                await body(house)

        asyncio.run(whole())

    return run


def test_what_a_guest_observed_is_asserted_here_and_names_who_observed_it(in_house):
    async def body(house: House) -> None:
        outcome = await house.carry(sh("echo $0; pwd"))
        assert (outcome.ending, outcome.code) == (Ending.SUCCEEDED, "ok")
        attestation = outcome.evidence.attestation
        assert attestation.confinement is FLOOR
        assert {one.known for one in attestation.properties.values()} <= {Known.ASSERTED, Known.ABSENT}
        guest = await house.book.guest("lab")
        assert guest is not None
        observed = outcome.evidence.facts["observed_by"]
        assert (observed["guest"], observed["key"]) == ("lab", key_name(bytes.fromhex(guest.key)))
        assert observed["trusted"] is False
        assert outcome.value["stdout"].endswith("/guest-lab/workspace\n")

    in_house(body)


def test_what_a_trusted_guest_observed_counts_and_its_key_vouches(in_house):
    async def body(house: House) -> None:
        found = await house.target(trusted=True).describe()
        outcome = await house.carry(sh("true"), trusted=True, floor=ConfinementClass.NAMESPACED)
        assert outcome.code == "ok", outcome
        assert outcome.evidence.attestation.meets(ConfinementClass.NAMESPACED)
        assert "guest lab" in outcome.evidence.attestation.properties["vouched-by"].value
        assert ConfinementClass.NAMESPACED in found.held
        assert (await house.target().describe()).held == (FLOOR,)

    in_house(body)


def test_guest_refuses_below_the_floor_that_is_asked_and_below_its_own(tmp_path, sandbox):
    async def body() -> None:
        async with opened_house(tmp_path, sandbox=sandbox) as house:
            async with house.serving(await house.joined()):
                asked = await house.carry(sh("touch ran"), trusted=True, floor=ConfinementClass.BUILTIN)
            async with house.serving(await house.joined(), least=ConfinementClass.BUILTIN):
                own = await house.carry(sh("touch ran"))
        for outcome in (asked, own):
            assert (outcome.ending, outcome.code) == (Ending.FAILED, "confinement_unmet")
        assert not (tmp_path / "guest-lab" / "workspace" / "ran").exists()

    asyncio.run(body())


def test_large_output_is_copied_here_before_the_end(in_house):
    async def body(house: House) -> None:
        size = 3_000_000
        order = sh(f"head -c {size} /dev/zero", limits=Limits(output_bytes_max=size * 2))
        outcome = await house.carry(order)
        assert outcome.code == "ok", outcome.message
        value = outcome.value["stdout"]
        assert (value["artefact"], value["bytes"]) == (outcome.evidence.digests["stdout"], size)
        name = value["artefact"].removeprefix("sha256:")
        assert (house.folder / "kept" / name[:2] / name[2:]).stat().st_size == size

    in_house(body)


def test_nothing_is_handed_on_when_nobody_serves(tmp_path, sandbox):
    async def body() -> None:
        async with opened_house(tmp_path, sandbox=sandbox) as house:
            assert "nobody has joined" in (await house.target().describe()).reason
            await house.joined()
            found = await house.target().describe()
            assert (found.held, "not heard from" in found.reason) == ((), True)

    asyncio.run(body())


def test_order_without_a_grant_is_not_handed_on(in_house):
    async def body(house: House) -> None:
        outcome = await house.target().lanes()["process"].carry(sh("true"), floor=FLOOR, on_event=lambda _event: None)
        assert (outcome.ending, outcome.code) == (Ending.FAILED, "target_unusable")

    in_house(body)
