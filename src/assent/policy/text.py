"""Policy text before Cedar reads it: cut into rules, bounded, and with places to point at.

Cedar's parser descends recursively on the machine's stack: some three thousand open brackets end the whole process, and
no exception is raised that could be caught. So text is measured here first, by the lexical grammar of Cedar (white
space, `//` comments, double-quoted strings), and what is too long or nests too deeply never reaches the parser.

Cedar's errors carry no position through the binding. A rule is therefore read alone, and the place of its mistake is
found by reading ever longer beginnings of it: as long as a beginning is good, the parser only misses the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import msgspec

TEXT_BYTES_MAX = 1_048_576
RULES_MAX = 2_000
RULE_TOKENS_MAX = 2_000
NESTING_MAX = 16
IFS_MAX = 16  # `if` nests without a bracket
OPERATORS_MAX = 256  # and so does every chain of these

_TOKEN = re.compile(
    r"""(?P<skip>\s+|//[^\n\r]*)
    | (?P<token>"(?:\\.|[^"\\])*"|[A-Za-z_][A-Za-z0-9_]*|[0-9]+|::|&&|\|\||[=!<>]=|.)""",
    re.DOTALL | re.VERBOSE,
)
_OPEN, _CLOSE = frozenset("([{"), frozenset(")]}")
_OPERATORS = frozenset({"&&", "||", "+", "-", "*", ".", "!", "::"})
_QUOTED = re.compile(r"[`'\"]([^`'\"]{1,80})[`'\"]|: (\w+)$")


class Token(msgspec.Struct, frozen=True):
    """One token: its text and its offset in the policy text."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The offset after it."""
        return self.start + len(self.text)


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """The text of one rule: its tokens in `whole`, the final `;` included when it is there. Never empty."""

    whole: str
    tokens: tuple[Token, ...]

    @property
    def finished(self) -> bool:
        """Whether its final `;` is there."""
        return self.tokens[-1].text == ";"

    def beginning(self, count: int) -> str:
        """The text of the first `count` tokens."""
        return self.whole[self.tokens[0].start : self.tokens[count - 1].end]

    @property
    def text(self) -> str:
        """The rule as it is written, from its first token to its last."""
        return self.beginning(len(self.tokens))

    def place(self, index: int = 0) -> tuple[int, int]:
        """Line and column, from 1, of the token at `index`."""
        start = self.tokens[index].start
        return self.whole.count("\n", 0, start) + 1, start - self.whole.rfind("\n", 0, start)


def pieces(text: str) -> tuple[Piece, ...]:
    """Cut a policy text into its rules, at each `;` outside strings and comments."""
    found: list[Piece] = []
    tokens: list[Token] = []
    for token in _tokens(text):
        tokens.append(token)
        if token.text == ";":
            found.append(Piece(whole=text, tokens=tuple(tokens)))
            tokens = []
    if tokens:
        found.append(Piece(whole=text, tokens=tuple(tokens)))
    return tuple(found)


def _tokens(text: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "token":
            yield Token(match.group(), match.start())


def excess(piece: Piece) -> str:
    """Why a piece must not be given to the parser, or an empty string when it may."""
    texts = [token.text for token in piece.tokens]
    if len(texts) > RULE_TOKENS_MAX:
        return f"the rule has more than {RULE_TOKENS_MAX} tokens: write it as several rules"
    if texts.count("if") > IFS_MAX:
        return f"the rule has more than {IFS_MAX} `if`s: write it as several rules"
    if sum(text in _OPERATORS for text in texts) > OPERATORS_MAX:
        return f"the rule has more than {OPERATORS_MAX} operators: write it as several rules"
    return f"the rule nests deeper than {NESTING_MAX} brackets" if _nesting(texts) > NESTING_MAX else ""


def _nesting(texts: list[str]) -> int:
    depth = deepest = 0
    for text in texts:
        depth += (text in _OPEN) - (text in _CLOSE)
        deepest = max(deepest, depth)
    return deepest


def mistake(piece: Piece, error_of: Callable[[str], str]) -> int:
    """The index of the token at which reading `piece` goes wrong.

    `error_of` gives Cedar's complaint about a text, or an empty string. Beginnings of a good rule all have the same
    complaint (the end is missing), so the shortest beginning with another ends in the wrong token; halving finds it.
    Complaints made only about a whole rule are pointed at by the word they quote.
    """
    count = len(piece.tokens)
    unfinished = error_of(piece.beginning(1)) if count > 1 else ""
    good, bad = 1, count
    while bad - good > 1:
        middle = (good + bad) // 2
        if error_of(piece.beginning(middle)) == unfinished:
            good = middle
        else:
            bad = middle
    if bad < count or not piece.finished:
        return min(bad, count) - 1
    return _quoted(piece, error_of(piece.text))


def _quoted(piece: Piece, complaint: str) -> int:
    for match in _QUOTED.finditer(complaint):
        word = match.group(1) or match.group(2)
        for index, token in enumerate(piece.tokens):
            if token.text == word:
                return index
    return 0
