"""Principals: who may ask at all, and for whom. Pure values and the rule of the chain.

A principal is `person:…`, `agent:…` or `service:…`. People act for themselves. Agents and services act on behalf of a
chain, nearest first, that ends in a person or in a `schedule:…`: somebody answers for everything.
"""

from __future__ import annotations

import re

import msgspec

from assent.primitives.errors import Malformed

CHAIN_MAX = 8
ROLES_MAX = 64

KINDS: dict[str, str] = {"person": "Person", "agent": "Agent", "service": "Service"}
"""The Cedar entity type of each kind of principal."""

# ASCII only: a name that looks like another name would be another name.
_LOCAL = r"[A-Za-z0-9](?:[A-Za-z0-9._@+/:-]{0,126}[A-Za-z0-9])?"
_PRINCIPAL = re.compile(rf"(?:person|agent|service):{_LOCAL}\Z")
_ROOT = re.compile(rf"(?:person|schedule):{_LOCAL}\Z")
_LINK = re.compile(rf"(?:agent|service):{_LOCAL}\Z")
_ROLE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?\Z")


class KnownPrincipal(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Someone declared: `name` is `person:…`, `agent:…` or `service:…`, `roles` are what rules see as `Role::"…"`."""

    name: str
    roles: tuple[str, ...] = ()


def is_principal(text: str) -> bool:
    """Whether `text` can be a principal's name."""
    return _PRINCIPAL.match(text) is not None


def is_role(text: str) -> bool:
    """Whether `text` can be a role."""
    return _ROLE.match(text) is not None


def entity_of(principal: str) -> tuple[str, str]:
    """The Cedar entity of a well-formed principal: `agent:writer` is `Agent::"writer"`."""
    kind, _, local = principal.partition(":")
    return KINDS[kind], local


def check_principal(known: KnownPrincipal) -> None:
    """Check a declaration.

    Raises:
        Malformed: `principal_malformed`: the name or a role is not well-formed, or there are too many roles.
    """
    if not _PRINCIPAL.match(known.name):
        raise Malformed(
            "principal_malformed",
            f"`{known.name[:80]}` is not a principal",
            hint="names look like `person:ann`, `agent:writer` or `service:build`",
        )
    wrong = [role for role in known.roles if not _ROLE.match(role)]
    if wrong or len(known.roles) > ROLES_MAX:
        what = f"`{wrong[0][:80]}` is not a role" if wrong else f"there are more than {ROLES_MAX} roles"
        raise Malformed("principal_malformed", f"principal `{known.name}`: {what}")


def chain_fault(principal: str, on_behalf_of: tuple[str, ...]) -> str:
    """Why `principal` cannot act for `on_behalf_of`, or an empty string when it can."""
    if not _PRINCIPAL.match(principal):
        return f"`{principal[:80]}` is not a person, an agent or a service"
    if principal.startswith("person:"):
        return "a person acts on behalf of nobody else" if on_behalf_of else ""
    if not on_behalf_of:
        return f"`{principal}` acts on behalf of nobody"
    if len(on_behalf_of) > CHAIN_MAX:
        return f"`{principal}` acts on behalf of a chain of more than {CHAIN_MAX}"
    return _links_fault(principal, on_behalf_of)


def _links_fault(principal: str, on_behalf_of: tuple[str, ...]) -> str:
    if not _ROOT.match(on_behalf_of[-1]):
        return f"the chain of `{principal}` ends in `{on_behalf_of[-1][:80]}`, not in a person or a schedule"
    for link in on_behalf_of[:-1]:
        if not _LINK.match(link):
            return f"`{link[:80]}` in the chain of `{principal}` is not an agent or a service"
    if len({principal, *on_behalf_of}) <= len(on_behalf_of):
        return f"the chain of `{principal}` runs in a circle"
    return ""
