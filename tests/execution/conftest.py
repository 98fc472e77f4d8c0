"""The lane under test, in a process of its own: as root and as an ordinary user where root runs the tests, else as the
ordinary user who runs them. Which paths are tested is visible in the test ids."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.execution.lane_world import USERS, Lane, Place, started_lane


@pytest.fixture(scope="module", params=USERS)
def lane(request: pytest.FixtureRequest) -> Iterator[Lane]:
    driver = started_lane(request.param)
    yield driver
    driver.end()
    shutil.rmtree(driver.state_dir)


@pytest.fixture(params=USERS)
def mortal_lane(request: pytest.FixtureRequest) -> Iterator[Lane]:
    """A lane of this test alone, for tests that kill its process."""
    driver = started_lane(request.param)
    yield driver
    driver.kill()
    shutil.rmtree(driver.state_dir)


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
