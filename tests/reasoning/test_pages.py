"""Web pages as text: what is kept, what is left out, and that no page takes long."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assent.reasoning.pages import PAGE_CHARACTERS_MAX, is_html, readable

PAGE = """<!DOCTYPE html><html><head><title>Tea &amp; more</title><style>p{color:red}</style></head><body>
<!-- not said --><nav><a href="#top">up</a></nav>
<h1>Hello</h1><p>Some <b>bold</b> text with <a href="/x?a=1&amp;b=2">a link</a>,
<a href='javascript:alert(1)'>none</a> and <a href=y>another</a>.</p>
<ul><li>one<li>two<ul><li>nested</li></ul></li></ul><ol><li>first<li>second</ol>
<pre>def f():
    return 1 &lt; 2
</pre><table><tr><th>a<th>b</tr><tr><td>1<td>2</tr></table><script>if (a<b) say("</p>hidden")</script>
<p>1 < 2 <img src=x alt="a cup"> done</p></body></html>"""

TOLD = """# Tea & more

up

# Hello

Some bold text with [a link](https://example.org/x?a=1&b=2), none and [another](https://example.org/d/y).

- one
- two
  - nested

1. first
2. second

```
def f():
    return 1 < 2
```

a | b
1 | 2

1 < 2 [image: a cup] done"""


def test_page_is_told_with_its_title_headings_lists_links_tables_and_code():
    assert readable(PAGE, url="https://example.org/d/") == TOLD


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("", ""),
        ("no markup at all", "no markup at all"),
        ("<title>Hi</title><h1>Hi</h1>there", "# Hi\n\nthere"),
        ("a<br>b", "a\nb"),
        ("<p>a</p><p>b</p>", "a\n\nb"),
        ("<p>never closed", "never closed"),
        ("a <b", "a <b"),
        ("<!-- never closed", ""),
        ("<script>never closed", ""),
        ("a<SCRIPT >x</sCript\n>b", "ab"),
        ("</p></ul></a></pre>fine", "fine"),
        ("<a href='http://a b/'>x</a>", "x"),
        ("<a href='http://[::1'>x</a>", "x"),
        ("<a href='data:text/html,x'>x</a>", "x"),
        ("<a href='https://e.org/\u202e'>x</a>", "x"),
        ("<a href='https://e.org/'></a>", ""),
        ("&#0;&#xffffffff;&bogus;&lt;b&gt;", "\ufffd\ufffd&bogus;<b>"),
    ],
)
def test_page_is_told_as_far_as_it_can_be_read(page, told):
    assert readable(page) == told


def test_page_ends_where_it_is_long_enough():
    assert len(readable("word " * 100_000)) <= PAGE_CHARACTERS_MAX


@pytest.mark.parametrize(
    ("kind", "text", "page"),
    [
        ("text/html; charset=utf-8", "", True),
        ("application/xhtml+xml", "", True),
        ("text/plain", "<html>", False),
        ("application/json", "{}", False),
        ("", "\n<!DOCTYPE html>", True),
        ("", "<html lang=en>", True),
        ("", "<htm", False),
    ],
)
def test_page_is_one_when_it_says_so(kind, text, page):
    assert is_html(kind, text) is page


@given(st.text(alphabet="<>!-/ab \"'=&;#x?\n", max_size=80))
@settings(max_examples=300)
def test_any_text_is_read_to_an_end(text):
    assert len(readable(text, url="https://example.org/")) <= PAGE_CHARACTERS_MAX


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    ["<", "<a", "<a ", '<a "', "<a '<a \"", "<!--", "<!", "<script>", "<title>", "<li>", "<ul>", "<ul><li>",
     "<a href=x>", "<a href=x>y</a>", "&", "&#", " ", "\n", "<pre>\n", "<pre>", "<td>", "<h1>", "</p>",
     "<img alt='"],
)  # fmt: skip
def test_page_takes_time_that_grows_with_its_size_only(unit):
    def taken(size: int) -> float:
        page = unit * (size // len(unit))
        best = 9.0
        for _ in range(2):
            before = time.perf_counter()
            readable(page, url="https://example.org/")
            best = min(best, time.perf_counter() - before)
        return best

    assert taken(800_000) < 20 * max(taken(100_000), 0.02)
