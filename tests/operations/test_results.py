"""What a model is told of results: the same words for the same record, bounded, whatever the value holds."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assent.operations.runs.results import shown
from assent.operations.runs.telling import TOLD_CHARACTERS_MAX, bounded


@pytest.mark.parametrize(
    ("operation", "arguments", "value", "told"),
    [
        ("files.read", {}, {"text": "hello", "bytes": 5}, "hello"),
        ("files.read", {}, {"text": "", "bytes": 0}, "[an empty file]"),
        ("files.read", {}, {"base64": "AA==", "bytes": 1}, "[1 bytes that are no text]"),
        ("files.read", {}, {"text": "a\n", "first_line": 3, "lines": 1, "more": True},
         "a\n\n[lines 3 to 3; it goes on: read with offset 4]"),
        ("files.read", {}, {"text": "a", "first_line": 3, "lines": 1, "more": False}, "a\n[lines 3 to 3, to the end]"),
        ("files.read", {}, {"text": "", "first_line": 9, "lines": 0, "more": False},
         "[no line 9: the file ends before it]"),
        ("files.list", {}, {"entries": [], "complete": True}, "[an empty folder]"),
        ("files.list", {}, {"entries": [{"name": "a", "kind": "folder", "size": 1}, {"name": "b", "kind": "file",
         "size": 2}, {"name": "c", "kind": "link", "size": 3}], "complete": False},
         "a/\nb  2 bytes\nc  [link]\n[there is more than is listed]"),
        ("files.write", {"path": "a"}, {"bytes": 3, "replaced": False}, "wrote `a`: 3 bytes"),
        ("files.edit", {"path": "a"}, {"replaced": 2, "lines": [1, 5]}, "edited `a`: replaced 2 (line 1, 5)"),
        ("files.edit", {"path": "a"}, {"line": 2, "there": "\tx", "wanted": "  x"}, 'there:  "\\tx"\nwanted: "  x"'),
        ("shell.run", {}, {"stdout": "", "stderr": "", "exit": 0}, "[no output]"),
        ("shell.run", {}, {"stdout": "a\n", "stderr": "b\n", "exit": 1}, "a\n[stderr]\nb"),
        ("shell.run", {}, {"stdout": "a", "stderr": "", "signal": 9}, "a\n[ended by signal 9]"),
        ("python.run", {}, {"stdout": "a\n", "stderr": "", "result": [1]}, "a\n[result] [1]"),
        ("python.run", {}, {"stdout": "", "exception": {"traceback": [{"file": "f", "line": 1, "function": "g",
         "text": "h"}]}}, "[traceback]\n  f, line 1, in g: h"),
        ("http.get", {}, {"status": 200, "headers": {"content-type": "text/plain"}, "body": "<p>"}, "<p>"),
        ("http.get", {"url": "https://e.org/"}, {"status": 200, "headers": {"content-type": "text/html"},
         "body": "<p>a <a href=b>c</a>"}, "a [c](https://e.org/b)"),
        ("http.get", {}, {"status": 404, "headers": {}, "body": "gone"}, "[status 404]\ngone"),
        ("http.get", {}, {"status": 204, "headers": {}, "body": ""}, "[status 204]"),
        ("http.get", {}, {"status": 200, "headers": {"content-type": "image/png"}, "body": {"base64": "AA=="}},
         "[a body that is no text: image/png]"),
        ("weather.now", {}, {"result": "fine"}, "fine"),
        ("weather.now", {}, {"result": {"b": 1, "a": 2}}, '{"a":2,"b":1}'),
        ("weather.now", {}, {"b": 1}, '{"b":1}'),
    ],
)  # fmt: skip
def test_result_is_told_in_words(operation, arguments, value, told):
    assert shown(operation, arguments, value) == told


def test_result_is_told_by_its_beginning_and_its_end_when_it_is_long():
    text = bounded("a" * 50_000 + "z")
    assert len(text) < TOLD_CHARACTERS_MAX + 100
    assert (text[0], text[-1]) == ("a", "z")
    assert "20001 characters left out" in text


values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("text", "entries", "first_line", "lines", "more", "replaced", "stdout", "stderr", "result", "exception",
         "status", "body", "headers", "there", "matches", "traceback", "complete")  # fmt: skip


@given(
    operation=st.sampled_from(
        ["files.read", "files.list", "files.write", "files.edit", "shell.run", "http.get", "a.b"]
    ),
    value=st.dictionaries(st.sampled_from(NAMES), values, max_size=4),
)
def test_result_is_told_whatever_it_holds(operation, value):
    assert isinstance(shown(operation, {}, value), str)
