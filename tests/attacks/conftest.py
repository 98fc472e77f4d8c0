"""Lanes to attack: as root and as an ordinary user where root runs the tests, with secrets planted in the process that
owns the lane."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.world import PlantedLane, planted_lane
from tests.execution.lane_world import USERS, Place


@pytest.fixture(scope="module", params=USERS)
def lane(request: pytest.FixtureRequest) -> Iterator[PlantedLane]:
    with planted_lane(request.param) as driver:
        yield driver


@pytest.fixture(params=USERS)
def mortal_lane(request: pytest.FixtureRequest) -> Iterator[PlantedLane]:
    """A lane of this test alone, for tests that kill its process."""
    with planted_lane(request.param) as driver:
        yield driver


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    name = "lane" if "lane" in request.fixturenames else "mortal_lane"
    made = Place(request.getfixturevalue(name).uid)
    yield made
    shutil.rmtree(made.folder)


@pytest.fixture
def marker(tmp_path: Path) -> str:
    """Text that no process but this test's own has in its command line or environment."""
    return f"assent-marker-{os.getpid()}-{abs(hash(tmp_path)):x}"
