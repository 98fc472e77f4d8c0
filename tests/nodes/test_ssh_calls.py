"""Calls that run on a host reached by SSH, end to end: policy, placement, record."""

from __future__ import annotations

import pytest

from tests.execution.ssh_site import SshSite

pytestmark = pytest.mark.slow
_SETTINGS = """
[targets.build]
kind = "ssh"
host = "{host}"
port = {port}
user = "{user}"
identity = "{identity}"
known_hosts = "{known_hosts}"
workspace = "{workspace}"
"""


@pytest.fixture
def ssh():
    site = SshSite()
    yield site
    site.close()


def test_call_runs_on_the_host_and_is_refused_when_the_host_is_another(site, ssh):
    access = {name: getattr(ssh.access, name) for name in ssh.access.__struct_fields__}
    with (site.home / "assent.toml").open("a", encoding="utf-8") as file:
        file.write(_SETTINGS.format(**access))
    answer = site.ran("run-in", "build", "--json", "--", "sh", "-c", "echo there: $PWD").document
    assert answer["effect"]["state"] == "succeeded", answer
    assert answer["outcome"]["value"]["stdout"] == f"there: {ssh.workspace}\n"
    assert answer["outcome"]["evidence"]["attestation"]["mechanism"] == "ssh"
    accepted = next(moment for moment in site.effects() if moment["type"] == "effect.accepted")
    rungs = [(rung["target"], rung["confinement"], rung["taken"]) for rung in accepted["facts"]["rungs"]]
    assert rungs == [("build", "microvm", False), ("build", "remote-asserted", True)]

    ssh.know(ssh.make_key("other").with_suffix(".pub"))
    refused = site.ran("run-in", "build", "--json", "--", "true").document
    assert (refused["effect"]["state"], refused["effect"]["code"]) == ("refused", "target_unavailable")
    assert "another machine" in refused["decision"]["reason"]
    assert site.ran("verify").code == 0
