"""Type promises are tests: lines that must not type-check, beside the same line as it must be written."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.repo.sources import ROOT

CODE = """
from assent.execution.carry import Executor
from assent.execution.grants import Grant, GrantBody
from assent.execution.orders import Order
from assent.execution.outcomes import StreamEvent

def drop(event: StreamEvent) -> None: ...

async def attempt(executor: Executor, grant: Grant, body: GrantBody, order: Order) -> None:
    await executor.carry(grant=grant, order=order, on_event=drop)  # case: with_a_grant
    await executor.carry(order=order, on_event=drop)  # case: without_a_grant
    await executor.carry(grant=None, order=order, on_event=drop)  # case: with_none
    await executor.carry(grant=body, order=order, on_event=drop)  # case: with_an_unsealed_body
    await executor.carry(grant, order, drop)  # case: by_position
    Grant(body)  # case: making_a_grant
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "errors"),
    [
        ("with_a_grant", set()),
        ("without_a_grant", {"call-arg"}),
        ("with_none", {"arg-type"}),
        ("with_an_unsealed_body", {"arg-type"}),
        ("by_position", {"call-arg"}),
        ("making_a_grant", {"call-arg"}),
    ],
)
def test_carry_type_checks_only_with_a_minted_grant(case: str, errors: set[str], found: dict[str, set[str]]) -> None:
    assert found.get(case, set()) == errors


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """mypy's error codes by the case on whose line they are, with the project's own settings and cache."""
    promises = tmp_path_factory.mktemp("typing") / "promises.py"
    promises.write_text(CODE)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--no-pretty", "--no-error-summary", str(promises)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not done.stderr, done.stderr
    found: dict[str, set[str]] = {}
    for line, code in re.findall(r"promises.py:(\d+): error: .*\[([a-z-]+)\]$", done.stdout, re.MULTILINE):
        case = CODE.splitlines()[int(line) - 1].rpartition("# case: ")[2]
        found.setdefault(case, set()).add(code)
    return found
