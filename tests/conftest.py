"""What holds for every test: one event loop, repeatable examples, no way out of the machine, and no silent skip."""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from tests.crash.seeds import SEED

if TYPE_CHECKING:
    from collections.abc import Iterator

UNMARKED_SLOW_S = 1.0

# Examples are drawn from the test itself, so that a failure here is a failure everywhere. Deadlines would measure the
# machine. `HYPOTHESIS_PROFILE=explore` looks for new examples.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
hypothesis.settings.register_profile("explore", deadline=None, max_examples=1000)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))

_outside: list[str] = []


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked `anyio` run on asyncio, as Assent does."""
    return "asyncio"


@pytest.fixture(autouse=True)
def nothing_left_the_machine() -> Iterator[None]:
    """Fail a test that tried to reach an address outside this machine, even if its code took the error well."""
    _outside.clear()
    yield
    assert not _outside, f"a test talks to loopback only, but this one tried {_outside}"


def pytest_report_header() -> str:
    """What is needed to take the same sample again."""
    return f"places to be killed at: ASSENT_KILLS={SEED}"


def pytest_configure() -> None:
    sys.addaudithook(_stay_here)


def _stay_here(event: str, args: tuple[Any, ...]) -> None:
    if event in ("socket.connect", "socket.sendto"):
        address = args[1]
        if isinstance(address, tuple) and not _is_here(str(address[0])):
            _outside.append(f"{address[0]}:{address[1]}")
            raise OSError(101, "tests may not leave this machine", str(address[0]))
    elif event == "socket.getaddrinfo" and args[0] and not _is_literal(_text(args[0])):
        raise socket.gaierror(socket.EAI_NONAME, "tests resolve no names")


def _is_here(host: str) -> bool:
    return host in ("", "localhost") or (_is_literal(host) and ipaddress.ip_address(host.partition("%")[0]).is_loopback)


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host == "localhost"
    return True


def _text(host: str | bytes) -> str:
    return host.decode() if isinstance(host, bytes) else host


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that ought to be marked `slow`. Only a hint: how long a test takes depends on the machine."""
    reports = terminalreporter.stats.get("passed", [])
    slow = sorted(
        ((r.duration, r.nodeid) for r in reports if r.duration > UNMARKED_SLOW_S and "slow" not in r.keywords),
        reverse=True,
    )
    if slow:
        terminalreporter.section(f"not marked slow, and over {UNMARKED_SLOW_S:g} s")
        for duration, name in slow:
            terminalreporter.line(f"{duration:6.2f} s  {name}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where a skip would hide a real part (`ASSENT_REFUSE_SKIPS=1`), a skipped test fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or os.environ.get("ASSENT_REFUSE_SKIPS") != "1":
        return
    skipped = reporter.stats.get("skipped", [])
    if skipped and session.exitstatus == 0:
        reporter.line(f"\n{len(skipped)} skipped here, and skips are refused", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
