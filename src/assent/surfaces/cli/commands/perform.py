"""`assent do` and `assent operations`: typed commands through the gate."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from assent.ledger.contracts import Argument, EffectClass, Idempotency, OperationContract
from assent.ledger.effects import EffectState
from assent.operations.identity.callers import Caller
from assent.operations.wishes import TYPED, Answer, Wish
from assent.primitives.errors import Conflict, Malformed, NotFound, Refused
from assent.surfaces.cli.arguments import ARGUMENTS_BYTES_MAX, Call, folder_of, option, read_call, unknown_operation
from assent.surfaces.cli.exits import OF_STATE
from assent.surfaces.cli.options import Common
from assent.surfaces.cli.paper import Paper, Span, Tone
from assent.surfaces.cli.ports import Desk, House, Said
from assent.surfaces.cli.telling.answers import tell_answer
from assent.surfaces.cli.telling.calls import call_line, outputs

_METAVARS = {
    "text": "TEXT", "integer": "NUMBER", "number": "NUMBER", "boolean": "", "texts": "TEXT …", "map": "KEY=VALUE …",
    "json": "JSON",
}  # fmt: skip
_ABOUT = {
    "do": "Perform one operation: it is decided, recorded, carried out confined, and recorded again.",
    "policy simulate": "Decide one call, rule by rule, as if it were made. Nothing is recorded or carried out.",
}
_RUN = ("--run NAME", "the run this belongs to; `assent timeline NAME` shows it")
_ALL = (
    ("--arguments JSON", "all arguments as one JSON object, or @file (@- reads standard input)"),
    ("--json", "print one JSON document and nothing else on stdout"),
    ("--folder PATH", "the folder that holds assent.toml (else: here or above)"),
)
_DOING = (
    ("--as NAME", "ask as a declared agent or service on your behalf, or as yourself (else: defaults.as)"),
    _RUN,
    ("--key TEXT", "idempotency key: the same call with the same key is done once"),
    ("--emergency WHY", "do it first and be looked at afterwards, where the rules let you"),
    ("--wait", "when people are asked, wait for their answer, then carry it out"),
    ("--raw", "write the output's bytes to stdout as they are, and nothing else"),
    *_ALL,
)
_SUPPOSING = (
    ("--as NAME", "as if this agent, service or person asked (else: defaults.as)"),
    ("--for NAME", "in whose name; again for every link of the chain (else: yours)"),
    ("--seen LABEL", "the weakest of what the asker had seen: system, user, org, third_party (else: user)"),
    ("--vouched NAME=LABEL", "on whose word one argument stands; again for others"),
    ("--reader NAME", "who alone may read what was seen; again for others"),
    ("--only CALL", "what was asked for, such as `files.write path=reports/*`; again for other calls"),
    ("--approved N", "as if so many people had approved exactly this call"),
    ("--approver NAME", "as if this person had; again for others"),
    ("--counted NAME=N", "what was before: `calls_this_hour=9`, `budget_used=80` (percent); again for others"),
    ("--revision ID", "not by the files, but by this revision; `active` is the one in force"),
    _RUN,
    *_ALL,
)
OPTIONS = {"do": _DOING, "policy simulate": _SUPPOSING}
"""What commands take that read their own words."""


async def do(*tokens: str, desk: Annotated[Desk, Parameter(parse=False)]) -> Said:
    """Perform one operation: it is decided, recorded, carried out confined, and recorded again.

    Example: assent do shell.run -- python3 -V
    """
    desk.use(Common(json=desk.json, folder=folder_of(tokens)))
    call = read_call(tokens, contracts=desk.contracts(), read=read_bytes)
    desk.use(Common(json=call.json, folder=call.folder))
    if call.help or not call.operation:
        return help_for(call.operation, desk.contracts())
    if call.raw and call.json:
        raise Malformed("usage", "`--raw` and `--json` are both given", hint="choose one form of output")
    async with desk.open(credential=True) as house:
        wish = _wish_by(await desk.caller(house), call, desk)
        answer = await house.gate.perform(wish, on_event=desk.live)
        if call.wait and answer.effect.state in (EffectState.IN_REVIEW, EffectState.GRANTED):
            answer = await _waited(answer, call, house, desk)
    return _said(answer, call, desk)


async def operations(
    connector: str = "",
    /,
    *,
    common: Common | None = None,
    desk: Annotated[Desk, Parameter(parse=False)],
) -> Said:
    """List the operations that connectors offer.

    Example: assent operations files

    Parameters
    ----------
    connector
        Only those of this connector.
    """
    desk.use(common)
    contracts = desk.contracts()
    if connector:
        names = sorted({contract.connector for contract in contracts.values()})
        contracts = {name: contract for name, contract in contracts.items() if contract.connector == connector}
        if not contracts:
            raise NotFound(
                "connector_unknown", f"there is no connector `{connector[:60]}`", hint=f"there are {', '.join(names)}"
            )
    return Said(
        document={"operations": [msgspec.to_builtins(contract) for contract in contracts.values()]},
        tell=lambda paper: _tell_operations(paper, contracts),
    )


def _wish_by(caller: Caller, call: Call, desk: Desk) -> Wish:
    """The call as a wish of whoever showed a credential, or of whoever works at the desk."""
    if caller.principal == desk.place.person and not caller.scope:
        return wish_of(call, desk)
    if call.principal not in ("", caller.principal):
        raise Refused(
            "asking_as_another", f"this credential shows `{caller.principal}`, and not `{call.principal[:80]}`",
            hint="leave --as out",
        )  # fmt: skip
    asked = caller.wish(call.operation, call.arguments, run=call.run, key=call.key)
    return msgspec.structs.replace(asked, emergency=call.emergency)


def wish_of(call: Call, desk: Desk) -> Wish:
    """The call as a wish of whoever works at the desk. In an emergency nobody asks but a person."""
    principal, on_behalf_of = desk.place.asking(call.principal or (desk.place.person if call.emergency else ""))
    return Wish(
        tenant=desk.place.tenant,
        operation=call.operation,
        arguments=call.arguments,
        principal=principal,
        on_behalf_of=on_behalf_of,
        run=call.run,
        key=call.key,
        provenance=TYPED,
        emergency=call.emergency,
    )


def help_for(operation: str, contracts: Mapping[str, OperationContract], *, command: str = "do") -> Said:
    """Help on a command that takes an operation, or on one operation."""
    if not operation:
        return Said(
            document={"operations": [msgspec.to_builtins(contract) for contract in contracts.values()]},
            tell=lambda paper: _tell_help(paper, contracts, command),
        )
    contract = contracts.get(operation)
    if contract is None:
        raise unknown_operation(operation, contracts)
    return Said(document=msgspec.to_builtins(contract), tell=lambda paper: _tell_contract(paper, contract, command))


async def _waited(answer: Answer, call: Call, house: House, desk: Desk) -> Answer:
    """Look again until the review is answered, then carry the call out, unless the approver's side already did."""
    tenant, id_ = answer.effect.tenant, answer.effect.id
    desk.say(lambda paper: tell_answer(paper, answer, call=call_line(call.operation, call.arguments)))
    while True:
        found = await house.timelines.explain(tenant, id_)
        match found.effect.state:
            case EffectState.IN_REVIEW:
                if found.review is not None and found.review.is_due(desk.now_ms()):
                    await house.reviews.expire(tenant)
                await desk.pause()
            case EffectState.GRANTED:
                try:
                    return await house.gate.release(tenant, id_, on_event=desk.live)
                except Conflict:  # the approver was faster, or the policy moved: look again
                    house.policies.forget(tenant)
                    await desk.pause()
            case EffectState.DISPATCHED:
                await desk.pause()
            case _:
                return Answer(effect=found.effect, decision=None, outcome=found.outcome, review=found.review)


def _said(answer: Answer, call: Call, desk: Desk) -> Said:
    streamed = desk.live_end()
    exit_ = OF_STATE[answer.effect.state]
    if call.raw and answer.effect.state is EffectState.SUCCEEDED and answer.outcome is not None:
        found = [output.data for output in outputs(answer.outcome.value) if output.name != "stderr"]
        desk.raw(b"".join(found))
        return Said(document=None, tell=lambda _: None, exit=exit_)
    line = call_line(call.operation, call.arguments)
    return Said(
        document=msgspec.to_builtins(answer),
        tell=lambda paper: tell_answer(paper, answer, call=line, streamed=streamed),
        exit=exit_,
    )


def read_bytes(name: str) -> bytes:
    """The bytes of the file behind `--arguments @file`."""
    if name == "-":
        return sys.stdin.buffer.read(ARGUMENTS_BYTES_MAX + 1)
    try:
        with Path(name).open("rb") as file:
            return file.read(ARGUMENTS_BYTES_MAX + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "") or str(error)
        raise Malformed(
            "usage", f"`{name[:200]}` cannot be read: {reason.lower()}", hint="name a file of JSON"
        ) from error


def _tell_help(paper: Paper, contracts: Mapping[str, OperationContract], command: str) -> None:
    paper.line(f"Usage: assent {command} OPERATION --name value … [-- program argument …]")
    paper.gap()
    paper.line(_ABOUT[command])
    paper.gap()
    paper.line(Span("Operations", Tone.STRONG), f"  (`assent {command} OPERATION --help` shows the arguments)")
    _tell_operations(paper, contracts, indent=2)
    paper.gap()
    paper.line(Span("Options", Tone.STRONG))
    paper.pairs(OPTIONS[command])
    paper.gap()
    paper.line(Span("Examples", Tone.STRONG))
    for example in (
        "files.read --path notes.txt",
        "shell.run -- python3 -V",
        "http.get --url https://example.org/ --header accept=text/html",
    ):
        paper.line(f"assent {command} {example}", indent=2)


def _tell_operations(paper: Paper, contracts: Mapping[str, OperationContract], *, indent: int = 0) -> None:
    tones = {"read": Tone.GOOD, "write": Tone.WAIT, "irreversible": Tone.BAD}
    paper.table(
        [[c.name, Span(c.effect, tones.get(c.effect, Tone.PLAIN)), c.summary] for c in contracts.values()],
        indent=indent,
    )


def _tell_contract(paper: Paper, contract: OperationContract, command: str) -> None:
    required = [f"{option(a)} {_METAVARS[a.kind]}".strip() for a in contract.arguments if a.required]
    paper.line(f"Usage: assent {command} {contract.name} {' '.join(required)}")
    paper.gap()
    paper.line(f"{contract.summary[:1].upper()}{contract.summary[1:]}.")
    paper.gap()
    paper.line(Span("Arguments", Tone.STRONG), "  (* says where or on what the effect falls)")
    paper.pairs([(_label(a), _about(a)) for a in contract.arguments])
    if any(a.kind == "texts" for a in contract.arguments):
        paper.line(f"`assent {command} {contract.name} -- WORD …` takes the words after `--` as they are.", indent=2)
    paper.gap()
    paper.line(Span("Contract", Tone.STRONG))
    paper.pairs(
        [
            ("effect", contract.effect),
            (
                "repeated",
                {"natural": "the same as once", "keyed": "the target drops it", "none": "happens twice"}[
                    contract.idempotency
                ],
            ),
            ("confinement", f"at least {contract.floor}"),
            ("observer", contract.observer or _unobserved(contract)),
        ]
    )
    paper.gap()
    names = " ".join(name.split()[0] for name, _ in OPTIONS[command])
    paper.line(f"Options: {names}; see `assent {command} --help`")


def _unobserved(contract: OperationContract) -> str:
    """What becomes of an unknown outcome that nothing can observe."""
    if contract.effect is EffectClass.READ or contract.idempotency is not Idempotency.NONE:
        return "none needed: it is sent again"
    return "none: only a person can settle an unknown outcome"


def _label(argument: Argument) -> str:
    return f"{option(argument)} {_METAVARS[argument.kind]}".strip() + (" *" if argument.authority else "")


def _about(argument: Argument) -> str:
    default: Any = argument.default
    if argument.required:
        return f"{argument.help} (required)"
    shown = f" (else: {default})" if default not in (None, "", False, [], {}) else ""
    return f"{argument.help}{shown}"
