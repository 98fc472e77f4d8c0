r"""Web pages as text to read: title, headings, lists, links, tables, code. Pure, and in time that grows with the page.

A page is a stranger's. The parser of the standard library looks for the end of a construct again and again where it is
missing, so that some pages take time that grows with the square of their size; and this text is made while a run is
told. Hence a scanner of its own: what opens a tag is a tag only if it closes before the next `<` (quoted values of at
most `VALUE_CHARACTERS_MAX` characters excepted), and everything else is text. Nothing is looked at twice.

What is left out: scripts, styles, forms' machinery, drawings, and what has no words. Links are made absolute, and only
those to the web are kept.
"""

from __future__ import annotations

import html
import re
from urllib.parse import urljoin, urlsplit

PAGE_CHARACTERS_MAX = 200_000
"""The most that is made of a page."""
VALUE_CHARACTERS_MAX = 8_192
LINK_CHARACTERS_MAX = 500
_NESTED_MAX = 100

_TAG = re.compile(
    r"<(?P<end>/?)(?P<name>[a-zA-Z][a-zA-Z0-9:-]{0,40})"
    rf"(?P<rest>(?:[^<>\"']|\"[^\"]{{0,{VALUE_CHARACTERS_MAX}}}\"|'[^']{{0,{VALUE_CHARACTERS_MAX}}}')*+)>"
)
_HREF = re.compile(r"\shref\s*=\s*(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))", re.IGNORECASE)
_ALT = re.compile(r"\salt\s*=\s*(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
_BLANKS = re.compile(r"[ \t\r\n\f\v\u00a0]+")
_SILENT = frozenset(
    {"script", "style", "noscript", "template", "svg", "math", "iframe", "object", "select", "textarea"}
)
_ENDS = {name: re.compile(rf"</{name}(?=[\s>/])[^>]*>", re.IGNORECASE) for name in _SILENT}
_BLOCKS = frozenset(
    {"p", "div", "section", "article", "main", "header", "footer", "nav", "aside", "ul", "ol", "dl", "dt", "dd",
     "table", "thead", "tbody", "form", "fieldset", "figure", "figcaption", "blockquote", "address", "details",
     "summary", "body", "html", "head"}
)  # fmt: skip
_HEADINGS = {f"h{level}": "#" * level for level in range(1, 7)}


def readable(page: str, *, url: str = "") -> str:
    """The words of an HTML page, in the spelling of Markdown; `url` is where it was found."""
    return _Reader(url).read(page)


def is_html(content_type: str, text: str) -> bool:
    """Whether a body is a page: it is called one, or it is called nothing and begins like one."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind:
        return kind in {"text/html", "application/xhtml+xml"}
    return text.lstrip()[:15].lower().startswith(("<!doctype html", "<html"))


class _Reader:
    """Reads a page once, from the front to the end."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._out: list[str] = []
        self._size = 0
        self._words: list[str] = []
        self._prefix = ""
        self._title = ""
        self._in_title = False
        self._pre = 0
        self._lists: list[int] = []
        self._links: list[tuple[str, int]] = []

    def read(self, page: str) -> str:
        at = 0
        while at < len(page) and self._size < PAGE_CHARACTERS_MAX:
            open_ = page.find("<", at)
            if open_ < 0:
                open_ = len(page)
            self._text(page[at:open_])
            at = self._markup(page, open_) if open_ < len(page) else open_
        self._line()
        body = re.sub(r"\n{3,}", "\n\n", "\n".join(self._out)).strip()
        title = self._title.strip()
        head = f"# {title}\n\n" if title and not body.startswith(f"# {title}") else ""
        return (head + body)[:PAGE_CHARACTERS_MAX]

    def _markup(self, page: str, at: int) -> int:
        """Take what begins with `<`; where to go on."""
        if page.startswith("<!--", at):
            return _after(page, "-->", at + 4)
        if page.startswith(("<!", "<?"), at):
            return _after(page, ">", at + 2)
        tag = _TAG.match(page, at)
        if tag is None:
            self._text("<")
            return at + 1
        name = tag["name"].lower()
        if tag["end"]:
            self._close(name)
            return tag.end()
        if name in _SILENT and not tag["rest"].endswith("/"):
            end = _ENDS[name].search(page, tag.end())
            return end.end() if end else len(page)
        self._open(name, tag["rest"])
        return tag.end()

    def _text(self, text: str) -> None:
        if not text:
            return
        words = html.unescape(text)
        if self._in_title:
            self._title = (self._title + _BLANKS.sub(" ", words))[:LINK_CHARACTERS_MAX]
            return
        if self._pre:
            first, *others = words.split("\n")
            self._say(first)
            for line in others:
                self._line(keep=True)
                self._say(line)
        else:
            self._say(_BLANKS.sub(" ", words))

    def _say(self, words: str) -> None:
        self._words.append(words)
        self._size += len(words)

    def _line(self, *, keep: bool = False, gap: bool = False) -> None:
        """End the line; `keep` one without words, `gap`: a paragraph ends here."""
        said = "".join(self._words)
        said = said.rstrip() if self._pre else _BLANKS.sub(" ", said).strip()
        if said or keep:
            self._out.append(self._prefix + said)
            self._size += len(self._prefix) + 1
            self._prefix = " " * len(self._prefix) if self._lists else ""
        if gap and self._out and self._out[-1]:
            self._out.append("")
        self._words, self._links = [], []

    def _open(self, name: str, rest: str) -> None:
        if name in _HEADINGS:
            self._line(gap=True)
            self._prefix = f"{_HEADINGS[name]} "
        elif name == "title":
            self._in_title = not self._title
        elif name == "pre":
            self._line(gap=True)
            self._out.append("```")
            self._pre += 1
        elif name == "a":
            self._links.append((self._address(rest), len(self._words)))
            del self._links[:-_NESTED_MAX]
        else:
            self._open_other(name, rest)

    def _open_other(self, name: str, rest: str) -> None:
        if name in {"br", "hr"}:
            self._line(keep=self._pre > 0)
        elif name == "img":
            alt = _ALT.search(rest)
            self._say(f"[image: {html.unescape(alt[1] or alt[2])}]" if alt and (alt[1] or alt[2]) else "")
        elif name in {"ul", "ol"}:
            self._line()
            self._lists = [*self._lists, 0 if name == "ul" else 1][-_NESTED_MAX:]
        elif name == "li":
            self._item()
        elif name == "tr":
            self._line()
        elif name in {"td", "th"}:
            self._say(" | " if self._words else "")
        elif name in _BLOCKS:
            self._line(gap=name in {"p", "blockquote", "table", "figure"} and not self._lists)

    def _close(self, name: str) -> None:
        if name == "a" and self._links:
            self._close_link()
        elif name == "title":
            self._in_title = False
        elif name == "pre" and self._pre:
            self._line()
            self._pre -= 1
            self._out.append("```\n")
        elif name in {"ul", "ol"} and self._lists:
            self._line()
            self._lists = self._lists[:-1]
            self._prefix = ""
            if not self._lists:
                self._out.append("")
        elif name in _HEADINGS or name in _BLOCKS or name in {"tr", "li"}:
            self._line(gap=name in {"p", "blockquote", "table", "figure", *_HEADINGS} and not self._lists)

    def _item(self) -> None:
        self._line()
        number = self._lists[-1] if self._lists else 0
        if number:
            self._lists = [*self._lists[:-1], number + 1]
        indent = "  " * min(max(len(self._lists) - 1, 0), 10)
        self._prefix = f"{indent}{number}. " if number else f"{indent}- "

    def _close_link(self) -> None:
        address, begins = self._links.pop()
        said = _BLANKS.sub(" ", "".join(self._words[begins:])).strip()
        if address and said:
            self._words[begins:] = [f"[{said}]({address})"]
            self._size += len(address)

    def _address(self, rest: str) -> str:
        found = _HREF.search(rest[:VALUE_CHARACTERS_MAX])
        written = html.unescape(next(filter(None, found.groups()), "")).strip() if found else ""
        if not written or written.startswith("#"):
            return ""
        try:
            whole = urljoin(self._url, written)
            kind = urlsplit(whole).scheme
        except ValueError:
            return ""
        fits = kind in {"http", "https"} and len(whole) <= LINK_CHARACTERS_MAX and whole.isprintable()
        return whole if fits and " " not in whole else ""


def _after(page: str, end: str, at: int) -> int:
    """Behind the next `end`; at the end of the page when there is none."""
    found = page.find(end, at)
    return len(page) if found < 0 else found + len(end)
