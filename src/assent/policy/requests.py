"""Requests: the context that rules see of one call. Pure.

An attribute that nothing supplies is absent, not empty, so that a rule must say `context has host` before it speaks of
the host; the schema makes it do so.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from assent.ledger.intents import Intent
from assent.ledger.operations import Facts
from assent.ledger.rates import COUNTED
from assent.policy.approvals import Approval


class _Approved(msgspec.Struct, frozen=True, kw_only=True):
    intent: str
    quorum: int
    approvers: tuple[str, ...]


class _Call(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The `Call` of the schema. What equals its default is left out; the required attributes have none."""

    intent: str
    on_behalf_of: tuple[str, ...]
    inside_workspace: bool
    payload_bytes: int
    integrity: int
    authority_integrity: int
    untrusted: tuple[str, ...]
    readers_permit: bool
    beyond_mandate: bool
    calls_in_run: int | None = None
    calls_this_hour: int | None = None
    calls_today: int | None = None
    budget_used: int | None = None
    run: str = ""
    path: str = ""
    host: str = ""
    method: str = ""
    program: str = ""
    target: str = ""
    approval: _Approved | None = None


_encode = msgspec.json.Encoder().encode


def context(
    *,
    on_behalf_of: tuple[str, ...],
    digest: str,
    run: str,
    facts: Facts,
    approval: Approval | None = None,
    counts: Collection[str] = COUNTED,
) -> bytes:
    """The context of one call as JSON. Of what is looked up, those in `counts` are there, which some rule reads; the
    others are left out, since they cost every call.

    Raises:
        UnicodeEncodeError: a text is not valid Unicode.
        TypeError: a text is none. (Bytes, dates and the like would be written as some text, and judged as that.)
    """
    for text in (run, facts.path, facts.host, facts.method, facts.program, facts.target):
        if type(text) is not str:
            raise TypeError("a fact that must be text is not")
    return _encode(
        _Call(
            intent=digest,
            on_behalf_of=on_behalf_of,
            inside_workspace=facts.inside_workspace,
            payload_bytes=facts.payload_bytes,
            integrity=facts.integrity,
            authority_integrity=facts.authority_integrity,
            untrusted=facts.untrusted,
            readers_permit=facts.readers_permit,
            beyond_mandate=facts.beyond_mandate,
            calls_in_run=facts.calls_in_run if "calls_in_run" in counts else None,
            calls_this_hour=facts.calls_this_hour if "calls_this_hour" in counts else None,
            calls_today=facts.calls_today if "calls_today" in counts else None,
            budget_used=facts.budget_used if "budget_used" in counts else None,
            run=run,
            path=facts.path,
            host=facts.host,
            method=facts.method,
            program=facts.program,
            target=facts.target,
            approval=_approved(approval),
        )
    )


def context_of(
    intent: Intent, digest: str, facts: Facts, approval: Approval | None = None, *, counts: Collection[str] = COUNTED
) -> str:
    """The context of `intent` as JSON text."""
    return context(
        on_behalf_of=intent.on_behalf_of,
        digest=digest,
        run=intent.run,
        facts=facts,
        approval=approval,
        counts=counts,
    ).decode()


def _approved(approval: Approval | None) -> _Approved | None:
    if approval is None:
        return None
    return _Approved(intent=approval.intent, quorum=approval.strength, approvers=tuple(sorted(approval.people)))
