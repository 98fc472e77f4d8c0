"""Guest, hub and asker, each killed or stopped in the middle of a run: nothing runs twice, nothing is left, and nobody
is told more than is known."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.execution.lane_world import eventually, processes_with
from tests.nodes.machines import Asker, Machine, Site

pytestmark = pytest.mark.slow
MARK = f"assent-death-mark-{os.getpid()}"
RUN = ("sh", "-c", "echo x >> deeds; exec sleep 600", MARK)


def begun(site: Site, *argv: str) -> tuple[Machine, Machine, Asker]:
    """A hub, a guest, and a call that has left its mark there and goes on."""
    hub, guest = site.hub(), site.guest(token=site.token())
    asker = site.asker(*(argv or RUN))
    mark = site.workspace() / "deeds"
    assert eventually(lambda: mark.exists() and mark.stat().st_size > 0)
    return hub, guest, asker


def deeds(site: Site) -> int:
    return len((site.workspace() / "deeds").read_text(encoding="utf-8").splitlines())


def ended(asker: Asker) -> tuple[str, str]:
    answer = asker.answer()
    return answer["effect"]["state"], answer["effect"]["code"]


def types(site: Site) -> list[str]:
    return [moment["type"] for moment in site.effects() if moment["effect"]]


def test_call_on_a_guest_is_recorded_with_its_target_and_rungs(site):
    site.hub(), site.guest(token=site.token())
    answer = site.asker("sh", "-c", "echo hello").answer()
    assert answer["outcome"]["value"]["stdout"] == "hello\n"
    assert answer["outcome"]["evidence"]["facts"]["observed_by"]["guest"] == "lab"
    accepted = next(moment for moment in site.effects() if moment["type"] == "effect.accepted")
    assert accepted["facts"]["target"] == "lab"
    rungs = [(rung["target"], rung["confinement"], rung["taken"]) for rung in accepted["facts"]["rungs"]]
    assert rungs == [("lab", "microvm", False), ("lab", "remote-asserted", True)]
    for told in (site.ran("explain", answer["effect"]["id"]).out, site.ran("timeline", answer["effect"]["id"]).out):
        assert "lab" in told
    assert site.ran("verify").code == 0


def test_outcome_is_unknown_when_the_guest_is_killed(site):
    _, guest, asker = begun(site)
    guest.end(signal.SIGKILL)
    assert ended(asker) == ("unknown", "guest_lost")
    assert eventually(lambda: not processes_with(MARK)), "the sandbox dies with the guest"
    site.guest()  # it serves again, and the ticket is not there any more
    assert site.asker("sh", "-c", "true").answer()["effect"]["state"] == "succeeded"
    assert deeds(site) == 1
    assert site.ran("verify").code == 0


def test_outcome_is_unknown_and_the_run_is_stopped_when_the_hub_is_killed(site):
    hub, guest, asker = begun(site)
    hub.end(signal.SIGKILL)
    assert ended(asker) == ("unknown", "guest_lost")
    assert eventually(lambda: not processes_with(MARK)), "the guest stops what nobody can hear of"
    site.hub()
    guest.until("serving", 2)
    assert site.asker("sh", "-c", "true").answer()["effect"]["state"] == "succeeded"
    assert deeds(site) == 1
    assert eventually(lambda: "effect.late_result" in types(site)), "what the guest owed is on record, as late"
    assert site.ran("verify").code == 0


def test_run_is_stopped_and_found_unknown_when_the_asker_is_killed(site):
    _, _, asker = begun(site)
    asker.kill()
    assert eventually(lambda: not processes_with(MARK)), "nobody wants it any more"
    lost = site.ran("recover", "--json").document["left"]
    assert [(effect["state"], effect["code"]) for effect in lost] == [("unknown", "node_lost")]
    assert deeds(site) == 1
    assert site.ran("verify").code == 0


def test_sleeping_guest_loses_its_run_and_what_it_says_later_is_late(site):
    _, guest, asker = begun(site, "sh", "-c", "echo x >> deeds; sleep 1; echo y >> deeds", MARK)
    guest.send(signal.SIGSTOP)
    assert ended(asker) == ("unknown", "guest_lost")
    before = _about(site)
    guest.send(signal.SIGCONT)
    guest.until("serving", 2)
    assert eventually(lambda: "effect.late_result" in types(site))
    assert _about(site) == before, "late, and not applied"
    assert eventually(lambda: not processes_with(MARK))
    assert site.ran("verify").code == 0


def test_asker_that_gives_up_leaves_nothing_running(site):
    _, _, asker = begun(site)
    asker.send(signal.SIGTERM)
    assert asker.wait() != 0
    assert eventually(lambda: not processes_with(MARK))
    assert [moment["facts"]["code"] for moment in site.effects() if moment["type"] == "effect.settled"] == ["cancelled"]


def test_nothing_is_asked_of_a_guest_when_no_hub_runs(site):
    hub, guest = site.hub(), site.guest(token=site.token())
    guest.end(signal.SIGTERM), hub.end(signal.SIGTERM)
    answer = site.asker("true").answer()
    assert (answer["effect"]["state"], answer["effect"]["code"]) == ("refused", "target_unavailable")


def test_hub_and_guest_end_in_order_when_they_are_told_to(site):
    hub, guest = site.hub(), site.guest(token=site.token())
    assert (guest.end(signal.SIGTERM), hub.end(signal.SIGTERM)) == (0, 0)
    assert not (site.home / ".assent" / "hub.sock").exists()


def test_second_hub_of_one_installation_is_refused(site):
    site.hub()
    ran = site.ran("node", "serve", "--json")
    assert ran.document["error"]["code"] == "hub_running"


def test_removed_guest_is_turned_out_while_it_serves(site):
    _, guest = site.hub(), site.guest(token=site.token())
    assert site.ran("node", "remove", "lab").code == 0
    assert guest.process.wait(60) != 0
    again = site.ran("node", "join", "--home", str(site.folder / "lab"), "--json")
    assert "guest_unknown" in again.out


def _about(site: Site) -> list[tuple[Any, ...]]:
    lost = site.ran("recover", "--json").document["left"]
    return [(effect["id"], effect["state"], effect["code"]) for effect in lost]
