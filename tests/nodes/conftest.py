"""The self-test of the guests' sandboxes runs once for all tests here."""

from __future__ import annotations

import asyncio

import pytest

from assent.execution.adapters.process import ProcessLane
from assent.surfaces.cli.main import run
from tests.nodes.house import CLOCK
from tests.nodes.machines import POLICY, Site


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sandbox")

    async def tested() -> None:
        lane = ProcessLane(clock=CLOCK, state_dir=folder, mechanism="namespaces")
        await lane.selftest()
        await lane.close()

    asyncio.run(tested())
    return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory):
    folder = tmp_path_factory.mktemp("template") / "home"
    assert run(["init", str(folder)]) == 0
    (folder / "policy" / "away.cedar").write_text(POLICY, encoding="utf-8")
    assert run(["policy", "activate", "--folder", str(folder)]) == 0
    return folder


@pytest.fixture
def site(template, sandbox):
    made = Site(template, sandbox)
    yield made
    made.close()
