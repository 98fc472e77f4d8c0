"""Reasons: one plain sentence for each decision. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from assent.policy.cedar import Uid
from assent.policy.rules import Rule

NAMES_MAX = 3


def named(rules: Iterable[Rule]) -> str:
    """The names of some rules: "rule `a`", "rules `a` and `b`", "rules `a`, `b`, `c` and 2 more"."""
    names = [f"`{rule.id}`" for rule in rules]
    shown, more = names[:NAMES_MAX], len(names) - NAMES_MAX
    if more > 0:
        shown.append(f"{more} more")
    text = f"{', '.join(shown[:-1])} and {shown[-1]}" if len(shown) > 1 else shown[0]
    return f"rule{'s' if len(names) > 1 else ''} {text}"


def permitted(rules: Sequence[Rule], *, call: str, lifted: Sequence[Rule] = (), approvals: int = 0) -> str:
    """Why a call is allowed."""
    people = f"{approvals} {'person' if approvals == 1 else 'people'}"
    approved = f", and {people} approved it as {named(lifted)} asked" if lifted else ""
    return f"{named(rules)} {_verb(rules, 'permit')} {call}{approved}{_because(rules)}"


def forbidden(rules: Sequence[Rule], *, call: str) -> str:
    """Why a call is forbidden, whatever people would say."""
    return f"{named(rules)} {_verb(rules, 'forbid')} {call}{_because(rules)}"


def reviewed(rules: Sequence[Rule], *, call: str, missing: str = "") -> str:
    """Why a call waits for people."""
    return f"{named(rules)} {_verb(rules, 'want')} {call} to be approved first{missing}{_because(rules)}"


def unpermitted(near: Sequence[Rule], *, call: str, principal: Uid, action: str, operation: str) -> str:
    """That no rule permits a call, and what would have to be there. `near` are the permits for such calls."""
    if near:
        return f"no rule permits {call}: {named(near)} could, but not under these conditions"
    head = f'permit(principal == {principal[0]}::"{principal[1]}", action == Action::"{action}", '
    return f'no rule permits {call}: it would take a rule such as {head}resource == Operation::"{operation}")'


def _verb(rules: Sequence[Rule], verb: str) -> str:
    return verb if len(rules) > 1 else f"{verb}s"


def _because(rules: Sequence[Rule]) -> str:
    texts = dict.fromkeys(rule.terms.reason for rule in rules if rule.terms.reason)
    return f": {'; '.join(list(texts)[:NAMES_MAX])}" if texts else ""
