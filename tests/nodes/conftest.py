"""The self-test of the guests' sandboxes runs once for all tests here."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory):
    return tmp_path_factory.mktemp("sandbox")
