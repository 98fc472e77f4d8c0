"""Transcripts in the documentation, run for real.

A page's blocks are run in order, in one folder and one shell, so later blocks may build on earlier ones:

    ```console                 `$ command`, then the lines it prints; continued lines of a command start with `> `
    ```cedar file=policy/x     the block is written to that file (`append=` adds to it), without being shown twice

What a command prints must be what stands there. `…` in a line stands for anything, `…` alone for any number of lines.
Ids, digests, times and durations differ from run to run: the first time an id of the page meets a real one they belong
together, and later commands are given the real one. `person:ann` is whoever runs the tests. A command that does not end
with status 0 must be followed by `$ echo $?` and the status.
"""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import assent
from assent.bootstrap.settings import os_login

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMAND_S = 30.0
PERSON = "person:ann"

_FENCE = re.compile(r"^```(?P<kind>\w*)(?P<more>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_ID = re.compile(r"\b(?=[0-9a-f]*[0-9])[0-9a-f]{8}\b")
_VARYING = re.compile(
    rf"(?P<any>…)|(?P<id>{_ID.pattern})|(?P<clock>\b\d\d:\d\d:\d\d\b)|(?P<ms>\b\d+ ms\b)|(?P<gap>\s+)"
)
_MARK = "end of the command, status"


class Step(NamedTuple):
    """One command with what it must print; or a file to write (`path` is not empty)."""

    line: int
    command: str
    expected: tuple[str, ...]
    path: str = ""
    append: bool = False


def steps(page: Path) -> list[Step]:
    """Everything on a page that is run."""
    text = page.read_text(encoding="utf-8")
    found: list[Step] = []
    for block in _FENCE.finditer(text):
        line = text.count("\n", 0, block.start()) + 1
        place = re.search(r"\b(file|append)=(\S+)", block["more"])
        if place:
            found.append(Step(line, "", (block["body"],), place[2], place[1] == "append"))
        elif block["kind"] == "console":
            found += _commands(block["body"], line + 1)
    return found


def _commands(body: str, line: int) -> Iterator[Step]:
    command, expected, start = "", list[str](), line
    for number, text in enumerate(body.splitlines(), line):
        if text.startswith("$ "):
            if command:
                yield Step(start, command, tuple(expected))
            command, expected, start = text[2:], [], number
        elif text.startswith("> ") and command and not expected:
            command += "\n" + text[2:]
        else:
            assert command, f"line {number}: output before any command"
            expected.append(text)
    if command:
        yield Step(start, command, tuple(expected))


class Shell:
    """One shell for one page, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        programs, self.folder = folder / "bin", folder / "here"
        programs.mkdir()
        self.folder.mkdir()
        for name, words in (("assent", "-m assent"), ("python3", "")):
            (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {words} "$@"\n')
            (programs / name).chmod(0o755)
        source = str(Path(assent.__file__).parents[1])
        path = f"{programs}:/usr/bin:/bin"
        environment = {"PATH": path, "HOME": str(folder), "LANG": "C.UTF-8", "PYTHONPATH": source}
        self._ids: dict[str, str] = {}
        self._process = subprocess.Popen(
            ["bash", "--noprofile", "--norc"], cwd=self.folder, env=environment,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def close(self) -> None:
        """End the shell and whatever it left running: a page that failed half-way keeps its port from nobody."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process.stdout.close()

    def run(self, command: str) -> tuple[str, int]:
        """Run one command with the real ids in it; what it printed, and its status."""
        real = _ID.sub(lambda found: self._ids.get(found[0], found[0]), command).replace(PERSON, me())
        assert self._process.stdin is not None
        then = f"__s=$?; printf '\\n{_MARK} %s\\n' $__s; (exit $__s)"
        self._process.stdin.write(f"{{ {real}\n}} </dev/null\n{then}\n".encode())
        self._process.stdin.flush()
        output, _, status = self._read_to_mark().rpartition(f"\n{_MARK} ")
        return output, int(status)

    def matches(self, expected: tuple[str, ...], output: str) -> str:
        """Why `output` is not what stands on the page, or an empty string. Ids met for the first time are learnt."""
        lines = [line for line in output.splitlines() if line.strip()]
        wanted = [line for line in expected if line.strip()]
        at = 0
        for index, text in enumerate(wanted):
            if text.strip() == "…":
                if index + 1 == len(wanted):
                    return ""
                while at < len(lines) and not self._fits(wanted[index + 1], lines[at]):
                    at += 1
                continue
            if at >= len(lines) or not self._fits(text, lines[at]):
                return f"expected: {text}\nfound:    {lines[at] if at < len(lines) else '(nothing more)'}"
            at += 1
        return f"not on the page: {lines[at]}" if at < len(lines) else ""

    def _fits(self, text: str, line: str) -> bool:
        met: list[str] = []

        def pattern(found: re.Match[str]) -> str:
            match found.lastgroup:
                case "any":
                    return ".*"
                case "id" if found[0] in self._ids:
                    return re.escape(self._ids[found[0]])
                case "id":
                    met.append(found[0])
                    return "([0-9a-f]{8})"
                case "clock":
                    return r"\d\d:\d\d:\d\d"
                case "ms":
                    return r"(?:\d+ ms|\d+\.\d s)"  # a busy machine takes its time
                case _:
                    return r"\s+"

        expression = "".join(_piece(text.strip().replace(PERSON, me()), pattern))
        found = re.fullmatch(expression, line.strip())
        if found:
            self._ids |= dict(zip(met, found.groups(), strict=True))
        return found is not None

    def _read_to_mark(self) -> str:
        assert self._process.stdout is not None
        data, deadline = b"", time.monotonic() + COMMAND_S
        while not re.search(rf"\n{_MARK} \d+\n\Z".encode(), data):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            piece = os.read(self._process.stdout.fileno(), 65_536) if ready else b""
            assert piece, f"no end within {COMMAND_S} s, or the shell ended; so far:\n{data.decode(errors='replace')}"
            data += piece
        return data.decode(errors="replace").rstrip("\n")


def me() -> str:
    """Whoever runs the tests, as a principal."""
    return f"person:{os_login()}"


def _piece(text: str, pattern: object) -> Iterator[str]:
    assert callable(pattern)
    at = 0
    for found in _VARYING.finditer(text):
        yield re.escape(text[at : found.start()])
        yield pattern(found)
        at = found.end()
    yield re.escape(text[at:])


def play(page: Path, folder: Path) -> None:
    """Run a page. Fails with the line of the first step that does not go as it stands there."""
    todo = steps(page)
    shell = Shell(folder)
    try:
        for index, step in enumerate(todo):
            where = f"{page.relative_to(DOCS.parent)}:{step.line}"
            if step.path:
                _write(shell, step)
                continue
            output, status = shell.run(step.command)
            told = index + 1 < len(todo) and todo[index + 1].command == "echo $?"
            assert status == 0 or told, f"{where}: `{step.command}` ended with {status}, which is not shown\n{output}"
            wrong = shell.matches(step.expected, output)
            assert not wrong, f"{where}: `{step.command}`\n{wrong}\n\nall of it:\n{output}"
    finally:
        shell.close()


def _write(shell: Shell, step: Step) -> None:
    """Write a block's file where the shell is."""
    where, _ = shell.run("pwd")
    path = Path(where.strip()) / step.path
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a" if step.append else "w", encoding="utf-8") as file:
        file.write(("\n" if step.append else "") + step.expected[0])
