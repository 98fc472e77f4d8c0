"""Write the reference pages from the code, so that they cannot say anything else than the code does.

    python -m scripts.reference           write docs/reference
    python -m scripts.reference --check   say which pages are not current; exit status 1 when one is not

What the code does not say stands in `reference_words.toml`. A thing without words, and words without a thing, stop this
program with their names.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from assent.bootstrap import settings
from assent.bootstrap.offering import STANDARD
from assent.execution.attestations import LADDER, NEEDS, ConfinementClass
from assent.execution.orders import Limits
from assent.ledger.connectors import catalogue
from assent.ledger.contracts import Argument, OperationContract
from assent.ledger.effects import EffectState
from assent.ledger.operations import Facts
from assent.policy import starter, terms
from assent.policy.bundle import Bundle
from assent.policy.engine import Engine
from assent.policy.matrix import as_markdown, matrix
from assent.policy.principals import ROLES_MAX, KnownPrincipal
from assent.policy.schema import SCHEMA
from assent.surfaces.cli import exits
from assent.surfaces.cli.arguments import option
from assent.surfaces.cli.main import DEBUG_VARIABLE
from scripts.reference_codes import ROOTS, Said, collect
from scripts.reference_commands import commands_page

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- Written by `python -m scripts.reference` from the code. Change that, then run it. -->"
MESSAGES_MAX = 3
EFFECTS = {"read": "reads", "write": "writes", "irreversible": "cannot be taken back"}
REPEATS = {"natural": "the same as once", "keyed": "dropped by the target", "none": "happens twice"}

LISTED = ("budgets",)
"""Sections that are lists of tables."""

_MOVED = ("effect", "before", "moves", "state")
_NOTED = ("journal", "before", "state", "node", "fence")
_DISPATCHED = (*_MOVED, "attempt", "grant", "node", "fence", "policy", "rules", "review")
SHARED_FIELDS: dict[str, tuple[str, ...]] = {
    "log.opened": (),
    "policy.activated": (),
    "run.started": (*_NOTED, "payload"),
    "run.heard": (*_NOTED, "key", "payload"),
    "run.waiting": (*_NOTED, "move"),
    "run.paused": (*_NOTED, "move"),
    "run.resumed": (*_NOTED, "move"),
    "run.compacted": (*_NOTED, "payload"),
    "run.ended": (*_NOTED, "move", "payload"),
    "session.opened": (*_NOTED, "messages", "payload"),
    "session.asked": (*_NOTED, "messages", "key", "payload"),
    "session.replied": (*_NOTED, "messages", "key", "payload"),
    "session.reset": (*_NOTED, "messages", "payload"),
    "session.compacted": (*_NOTED, "messages", "payload"),
    "request.made": _NOTED,
    "halt.begun": (*_NOTED, "payload"),
    "halt.lifted": (*_NOTED, "payload"),
    "stand_in.named": (*_NOTED, "payload"),
    "stand_in.ended": (*_NOTED, "payload"),
    "token.made": (*_NOTED, "payload"),
    "token.revoked": (*_NOTED, "payload"),
    "waiver.made": (*_NOTED, "payload"),
    "waiver.signed": (*_NOTED, "payload"),
    "waiver.used": _NOTED,
    "waiver.revoked": (*_NOTED, "payload"),
    "effect.accepted": (
        *_MOVED,
        "code",
        "rules",
        "policy",
        "attempt",
        "grant",
        "node",
        "fence",
        "payload",
        "holds",
        "budget",
    ),
    "effect.dispatched": (*_DISPATCHED, "holds"),
    "effect.resent": _DISPATCHED,
    "effect.settled": (*_MOVED, "attempt", "node", "fence", "code", "payload"),
    "effect.late_result": ("effect", "before", "attempt", "node", "fence", "code", "payload"),
    "effect.lost": (*_MOVED, "code", "attempt", "node", "fence"),
    "effect.judged": (*_MOVED, "code", "payload"),
    "effect.stopped": (*_MOVED, "budget"),
    "effect.withdrawn": (*_MOVED, "code", "policy", "rules", "review", "review_state"),
    "review.answered": (*_MOVED, "code", "review", "review_state", "payload"),
    "review.escalated": (*_MOVED, "code", "review", "review_state"),
    "review.expired": (*_MOVED, "code", "review", "review_state"),
    "budget.dismissed": (),
}
"""Which of the fields with one meaning each type of entry has; tests/docs compares with real logs."""


class Words:
    """The words beside the code."""

    def __init__(self) -> None:
        text = Path(__file__).with_name("reference_words.toml").read_text(encoding="utf-8")
        self._words: dict[str, Any] = tomllib.loads(text)

    def of(self, *path: str, things: Iterable[str]) -> dict[str, str]:
        """The words for exactly `things`, in the order of the words.

        Raises:
            SystemExit: a thing has no words, or words have no thing.
        """
        found: Any = self._words
        for name in path:
            found = found.get(name, {})
        wanted = set(things)
        wrong = [f"`{name}` has no words" for name in sorted(wanted - found.keys())]
        wrong += [f"`{name}` is not in the code" for name in found.keys() - wanted]
        if wrong:
            raise SystemExit(f"reference_words.toml, [{'.'.join(path)}]: {', '.join(wrong)}")
        return {name: str(text) for name, text in found.items()}

    def table(self, name: str) -> dict[str, Any]:
        """A table as it is."""
        return dict(self._words[name])


WORDS = Words()


def operations_page() -> Iterator[str]:
    """Every operation, by its contract."""
    yield from _head("Operations", "What can be asked for with `assent do`. Each is declared in a contract.")
    yield from ("| operation | | effect | sent twice |", "|---|---|---|---|")
    for operation in STANDARD:
        c = operation.contract
        yield f"| [`{c.name}`](#{_anchor(c.name)}) | {c.summary} | {EFFECTS[c.effect]} | {REPEATS[c.idempotency]} |"
    for operation in STANDARD:
        yield from _operation(operation.contract)
    yield from _section("What rules see of a call", "Computed from the arguments, never declared by the asker.")
    yield from _pairs("fact", WORDS.of("facts", things=Facts.__struct_fields__))
    for module, kind in (("files", "file"), ("edits", "edit"), ("http", "HTTP")):
        yield from _section(f"How an unknown {kind} call is judged", "By what the observer sees afterwards.")
        yield from _judging_table(module)
    yield ""
    yield "`shell.run` leaves nothing to look at. Only a person can say what it did."


def _operation(contract: OperationContract) -> Iterator[str]:
    yield from ("", f"## {contract.name}", "", f"{_sentence(contract.summary)}", "")
    yield f"Effect: {contract.effect} ({EFFECTS[contract.effect]}). Sent twice: {REPEATS[contract.idempotency]}."
    yield f"Confinement: at least `{contract.floor}`."
    yield f"Observer: {f'`{contract.observer}`' if contract.observer else 'none'}."
    yield from ("", "| argument | option | kind | | at most |", "|---|---|---|---|---|")
    for a in contract.arguments:
        mark = " \\*" if a.authority else ""
        size = f"{a.bytes_max:,} bytes" if a.kind in {"text", "texts", "map", "json"} else ""
        yield f"| `{a.name}`{mark} | `{option(a)}` | {a.kind} | {a.help}{_default(a)} | {size} |"
    yield from ("", "\\* says where or on what the effect falls.")


def _default(argument: Argument) -> str:
    if argument.required:
        return " (required)"
    return f" (else `{argument.default}`)" if argument.default not in (None, "", {}, [], False) else ""


def _judging_table(module: str) -> Iterator[str]:
    """The table in the docstring of a connector's module."""
    text = (ROOT / "src" / "assent" / "ledger" / "connectors" / f"{module}.py").read_text(encoding="utf-8")
    for line in text.split('"""')[1].splitlines():
        if line.startswith("|"):
            cells = [f" {cell.strip()} " if cell.strip("-") else "---" for cell in line.strip("|").split("|")]
            yield f"|{'|'.join(cells)}|"


def exits_page() -> Iterator[str]:
    """Exit codes."""
    yield from _head("Exit codes", "How a command ended, for scripts.")
    yield from _pairs("code", {str(int(code)): text for code, text in exits.MEANINGS.items()})
    yield from _section("By the state of the effect", "`assent do` and `assent approve` end by where it stands.")
    yield from _pairs("state", {s.value: f"{int(exits.OF_STATE[s])}" for s in EffectState}, second="exit code")
    yield from _section("By the class of the error", "See [codes](codes.md).")
    yield from ("| class | exit code |", "|---|---|")
    yield f"| Refused: malformed | {int(exits.Exit.USAGE)} |"
    yield f"| Refused, and every other kind of it | {int(exits.Exit.REFUSED)} |"
    yield f"| Unavailable, Invariant broken | {int(exits.Exit.FAILED)} |"


def codes_page() -> Iterator[str]:
    """Every stable code."""
    found = collect()
    yield from _head(
        "Codes",
        "Stable words that programs may rely on. Messages are for people and may change. In the messages below, `…`\n"
        "stands for whatever is filled in.",
    )
    yield from _section("Decisions", "What policy answered.")
    yield from _pairs("code", WORDS.of("decisions", things=found.decisions))
    yield from _section("Outcomes", "How an attempt ended.")
    lanes = {code for code, said in found.errors.items() if any(s.module.startswith("execution/") for s in said)}
    known = WORDS.table("outcomes").keys()
    yield from _pairs("code", WORDS.of("outcomes", things=found.outcomes | (lanes & known)))
    yield from _section("Judgements", "How an effect came out without a lane saying so.")
    yield from _pairs("code", {name: str(text) for name, text in WORDS.table("judgements").items()})
    yield from _section("Policy checks", "What `assent policy check` finds.")
    yield from _pairs("code", WORDS.of("faults", things=found.faults))
    yield from _section("Errors", "Why a command could not go on. The class says what kind of no it is.")
    yield from ("| code | class | says | next step |", "|---|---|---|---|")
    yield from _errors(found.errors)


def _errors(errors: Mapping[str, list[Said]]) -> Iterator[str]:
    spoken = WORDS.table("errors")
    silent = {code for code, said in errors.items() if not _messages(said)}
    if unknown := (silent - spoken.keys()) | (spoken.keys() - errors.keys()):
        raise SystemExit(f"reference_words.toml, [errors]: {', '.join(sorted(unknown))}")
    for code, said in sorted(errors.items()):
        classes = " or ".join(sorted({s.root for s in said}, key=list(ROOTS.values()).index))
        messages = [str(spoken[code])] if code in spoken else _messages(said)
        hints = list(dict.fromkeys(s.hint for s in said if s.hint.strip("… ")))
        yield f"| `{code}` | {classes} | {_cell(messages)} | {_cell(hints)} |"


def _messages(said: list[Said]) -> list[str]:
    return list(dict.fromkeys(s.message for s in said if len(s.message.replace("…", "").strip("` :;,.")) > 1))


def _cell(texts: list[str]) -> str:
    more = " / …" if len(texts) > MESSAGES_MAX else ""
    return (" / ".join(texts[:MESSAGES_MAX]) + more).replace("|", "\\|").replace("\n", " ")


def settings_page() -> Iterator[str]:
    """Everything `assent.toml` may say."""
    yield from _head(
        "Settings",
        f"One file, `{settings.FILE_NAME}`. It is looked for in the folder named by `--folder`, then in the one named\n"
        f"by the environment variable `{settings.FOLDER_VARIABLE}`, then here and in every folder above. Every\n"
        "mistake is told at once, with its line.",
    )
    for section, about in WORDS.of("sections", things=settings.KNOWN_KEYS).items():
        head = f"[[{section}]]" if section in LISTED else f"[{section}]"
        yield from ("", f"## {head}", "", _sentence(about), "", "| key | | when left out |", "|---|---|---|")
        for key, text in WORDS.of("settings", section, things=settings.KNOWN_KEYS[section]).items():
            yield f"| `{key}` | {text} | {_when_left_out(section, key)} |"
    yield from _section(
        "What must lie apart",
        "The workspace may hold neither the settings, nor the data folder, nor the policy folder, and may lie in\n"
        "neither of them. Links are followed before this is judged. An agent could otherwise change what binds it.",
    )
    yield from _section("Environment", "Three variables are read, and nothing else.")
    yield from _pairs(
        "variable",
        {
            settings.FOLDER_VARIABLE: "where to look for the settings, when `--folder` does not say",
            DEBUG_VARIABLE: "set to anything: an unexpected error shows where it came from",
            "NO_COLOR": "set to anything: no colours. `TERM=dumb` does the same",
        },
    )


def _when_left_out(section: str, key: str) -> str:
    if section == "assent":
        return f"`{settings.DEFAULTS[key]}`"
    return "yourself" if (section, key) == ("defaults", "as") else "nothing"


def policy_page() -> Iterator[str]:
    """Schema, annotations and limits of policy."""
    yield from _head("Policy", "What rules can say. How they are used: [write a policy](../how-to/write-a-policy.md).")
    yield from ("", "## Schema", "", "Everything a rule may look at.", "", "```text", SCHEMA.rstrip(), "```")
    yield from _section(
        "Annotations", 'Each takes a text: `@quorum("2")`. The strictest of all rules that apply holds.'
    )
    yield from ("| annotation | | values |", "|---|---|---|")
    for name, text in WORDS.of("annotations", things=terms.ANNOTATIONS).items():
        yield f"| `@{name}` | {text} | {_values(name)} |"
    yield from _section("Limits that no rule names", "These hold then. The floor is `namespaced`, or more.")
    yield from ("| limit | |", "|---|---|")
    for name in Limits.__struct_fields__:
        yield f"| `{name}` | {getattr(Limits(), name):,} |"
    yield from _section("Policy tests", "Files named `*_tests.toml` in the policy folder, run by `assent policy test`.")
    yield from ("", "```toml", _cases_example(), "```")


def _values(name: str) -> str:
    """What an annotation takes, from the tables that judge it."""
    if name == "id":
        return "1 to 64 of `a-z`, `0-9`, `.`, `_`, `-`"
    if name == "floor":
        return ", ".join(f"`{one}`" for one in LADDER)
    if name == "accept":
        return "some of " + ", ".join(f"`{one}`" for one in ConfinementClass) + ", with blanks between them"
    if name == "egress":
        return f"1 to {terms.EGRESS_MAX} of `host:port`, `*.domain.example:port` or `address:port`, with blanks between"
    if name == "apart":
        return "`chain`"
    if name in terms._ROLES:  # noqa: SLF001 (the tables are what is documented)
        return f"1 to {ROLES_MAX} roles, with blanks between them"
    if name in terms._TEXTS:  # noqa: SLF001 (the tables are what is documented)
        return f"a text, at most {terms._TEXTS[name]:,} characters"  # noqa: SLF001
    most = terms._REVIEWS.get(name) or terms.AMOUNT_MAX // terms._LIMITS[name][1]  # noqa: SLF001
    return f"1 to {most:,}"


def _cases_example() -> str:
    text = (ROOT / "src" / "assent" / "policy" / "cases.py").read_text(encoding="utf-8").split('"""')[1]
    return text[text.index("[[principal]]") :].rstrip()


def entries_page() -> Iterator[str]:
    """Types of log entries and their fields."""
    yield from _head(
        "Log entries",
        'An entry is `{"at", "body", "prev", "seq", "tenant", "type", "v"}`: when (milliseconds since 1970, on the\n'
        "database's clock), what, the hash of the entry before, the place, whose, which kind, and the version of this\n"
        "form (1). These are the types, and the fields of `body`. How it holds together:\n"
        "[the log](../explanation/the-log.md).",
    )
    payloads = WORDS.table("payloads")
    for kind, own in WORDS.table("entries").items():
        yield from ("", f"## {kind}", "", _sentence(str(own["about"])), "", "| field | |", "|---|---|")
        for name, text in _fields(kind, own).items():
            yield f"| `{name}` | {text} |"
        if kind in payloads:
            yield from ("", f"Payload: {payloads[kind]}.")


def entry_fields() -> dict[str, set[str]]:
    """The documented fields of each type of entry."""
    return {kind: set(_fields(kind, own)) for kind, own in WORDS.table("entries").items()}


def _fields(kind: str, own: Mapping[str, Any]) -> dict[str, str]:
    shared = WORDS.table("fields")
    common = {name: str(shared[name]) for name in SHARED_FIELDS[kind]}
    return common | {name: str(text) for name, text in own.items() if name != "about"}


def starter_page() -> Iterator[str]:
    """What the starter policy decides."""
    text = files(starter).joinpath("starter.cedar").read_text(encoding="utf-8")
    principals = [KnownPrincipal(name=name) for name in ("agent:helper", "person:you", "service:build")]
    contracts = {name: one.contract for name, one in catalogue(STANDARD).items()}
    engine = Engine(bundle=Bundle(text=text), contracts=contracts, principals=principals)
    yield from as_markdown(matrix(engine), title="What the starter policy decides").splitlines()
    yield from (
        "",
        "`assent policy matrix` makes the same of your own policy: [change a policy](../how-to/change-a-policy.md).",
    )


def confinement_page() -> Iterator[str]:
    """Classes and the properties they need."""
    yield from _head(
        "Confinement",
        "A run's class is the strongest one whose properties were all observed or probed. What that means:\n"
        "[confinement](../explanation/confinement.md).",
    )
    yield from (
        f"| property | | {' | '.join(f'`{name}`' for name in NEEDS)} |",
        f"|---|---|{'---|' * len(NEEDS)}",
    )
    for name, text in WORDS.of("properties", things=frozenset[str]().union(*NEEDS.values())).items():
        yield f"| `{name}` | {text} | {' | '.join('needed' if name in needs else '' for needs in NEEDS.values())} |"
    yield ""
    yield "`local-weak` needs none of them. `remote-asserted` is what a run is called of which nothing was seen here"
    yield "and another machine vouches for something. `builtin` is said by lanes that run no foreign code."
    yield from _section(
        "Order",
        "A floor is met by its own class and every later one. `wasm` and `remote-asserted` stand beside this ladder: "
        "they meet no floor but their own, and are used only where a rule accepts them by name.",
    )
    yield " < ".join(f"`{one}`" for one in LADDER)


def _head(title: str, text: str) -> Iterator[str]:
    yield from (f"# {title}", "", text, "")


def _section(title: str, text: str) -> Iterator[str]:
    yield from ("", f"## {title}", "", text, "")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _pairs(first: str, rows: Mapping[str, str], *, second: str = "") -> Iterator[str]:
    yield from (f"| {first} | {second} |", "|---|---|")
    for name, text in rows.items():
        yield f"| `{name}` | {text} |"


def _anchor(title: str) -> str:
    return title.lower().replace(".", "").replace(" ", "-")


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "cli.md": commands_page,
    "exit-codes.md": exits_page,
    "codes.md": codes_page,
    "settings.md": settings_page,
    "operations.md": operations_page,
    "policy.md": policy_page,
    "starter-matrix.md": starter_page,
    "log-entries.md": entries_page,
    "confinement.md": confinement_page,
}


def text_of(name: str) -> str:
    """A page's whole text."""
    lines = [MADE, "", *PAGES[name]()]
    kept = [line for at, line in enumerate(lines) if line or (at and lines[at - 1])]
    return "\n".join(line.rstrip() for line in kept).rstrip() + "\n"


def stale() -> list[str]:
    """Pages that are not what the code says."""
    current = {name: (FOLDER / name).read_text(encoding="utf-8") for name in PAGES if (FOLDER / name).is_file()}
    return [name for name in PAGES if current.get(name) != text_of(name)]


def main(arguments: list[str]) -> int:
    """Write the pages, or compare them."""
    old = stale()
    if "--check" in arguments:
        print(f"not current: {', '.join(old)}; run `python -m scripts.reference`" if old else "all pages are current")
        return 1 if old else 0
    for name in old:
        (FOLDER / name).write_text(text_of(name), encoding="utf-8")
    print(f"wrote {', '.join(old) or 'nothing: all pages are current'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
