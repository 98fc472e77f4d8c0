"""The one module that imports the policy engine: Cedar, through its Python binding.

Cedar skips a rule that fails to evaluate. For a `forbid` that means it forbids nothing, and the call is allowed with an
error in the diagnostics. The rules of this wrapper follow from that:

- Every question is asked with the schema, so a context with a missing, surplus or mistyped attribute is no question.
- An answer counts only when its diagnostics hold no error and it is a plain allow or deny. Everything else, the
  binding's own exceptions and panics included, comes back as `failed`, which the engine above turns into a deny.
- Policies, entities and schema are handles, parsed once per revision. The strings API would parse all three on every
  call, at twenty times the cost.
- Rules carry their `@id` as Cedar's own policy id, so answers speak of rules by the name people gave them. Annotations
  are read from the policies' JSON, because diagnostics know none but `@id`.

The binding is pinned to one version: what a policy means must not change under a log.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import cedarpy
import msgspec

T = TypeVar("T")
Uid = tuple[str, str]

_POSITIONAL = re.compile(r"for policy `policy\d+`[,:] ")
_PER_ACTION = re.compile(r' for Action::"[^"]*"')
_json = msgspec.json.Encoder()


class Unreadable(Exception):
    """Cedar could not make sense of something; the text says why."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What Cedar said. When `failed` is not empty there is no decision, whatever the other fields hold."""

    allowed: bool
    rules: tuple[str, ...] = ()
    failed: str = ""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One request: entity ids and the context as JSON text."""

    principal: Uid
    action: str
    resource: str
    context: str


class Judge:
    """A fixed set of rules with the entities and the schema they are about."""

    __slots__ = ("_entities", "_rules", "_schema")

    def __init__(self, *, rules: cedarpy.PolicySet, entities: cedarpy.Entities, schema: cedarpy.Schema) -> None:
        self._rules = rules
        self._entities = entities
        self._schema = schema

    def ask(self, question: Question) -> Answer:
        """Decide one request. Never raises."""
        return self.ask_all((question,))[0]

    def ask_all(self, questions: Sequence[Question]) -> list[Answer]:
        """Decide several requests. Never raises; when the binding gives up, all of them have failed."""
        try:
            results = _guarded(
                lambda: cedarpy.is_authorized_batch(
                    [_request(question) for question in questions], self._rules, self._entities, self._schema
                )
            )
        except Unreadable as unreadable:
            return [Answer(allowed=False, failed=str(unreadable)) for _ in questions]
        return [_answer(result) for result in results]


class Cedar:
    """Cedar with one schema."""

    def __init__(self, schema: str) -> None:
        self._schema = _guarded(lambda: cedarpy.Schema.from_str(schema))
        self._nothing = self.entities(())

    def read(self, text: str) -> list[dict[str, Any]]:
        """The rules of `text` in Cedar's JSON form, in order; templates are among them, marked by their slots.

        Raises:
            Unreadable: it is not policy text. (Text that `assent.policy.text` has not bounded may end the process.)
        """
        found = _guarded(lambda: msgspec.json.decode(cedarpy.policies_to_json_str(text)))
        rules: dict[str, dict[str, Any]] = {**found["templates"], **found["staticPolicies"]}
        return [rules[name] for name in sorted(rules, key=lambda name: int(name.removeprefix("policy")))]

    def complaint(self, text: str) -> str:
        """What is wrong with `text` as policy text, or an empty string."""
        try:
            _guarded(lambda: cedarpy.PolicySet.from_str(text))
        except Unreadable as unreadable:
            return str(unreadable)
        return ""

    def violations(self, text: str) -> list[str]:
        """How one readable rule breaks the schema, each once."""
        try:
            result = _guarded(lambda: cedarpy.validate_policies(text, self._schema))
        except Unreadable as unreadable:
            return [str(unreadable)]
        found = [_PER_ACTION.sub("", _POSITIONAL.sub("", error.error)) for error in result.errors]
        if not result.validation_passed and not found:
            found = ["it does not fit the schema"]
        return sorted(set(found))

    def carries(self, body: Mapping[str, Any]) -> bool:
        """Whether Cedar can take a rule back in its JSON form, whose nesting it limits."""
        try:
            self.judge({"rule": body}, self._nothing)
        except Unreadable:
            return False
        return True

    def entities(self, items: Sequence[Mapping[str, Any]]) -> cedarpy.Entities:
        """Parse entities, checked against the schema.

        Raises:
            Unreadable: they do not fit it.
        """
        data = _json.encode(items).decode()
        return _guarded(lambda: cedarpy.Entities.from_json_str(data, self._schema))

    def judge(self, rules: Mapping[str, Mapping[str, Any]], entities: cedarpy.Entities) -> Judge:
        """A judge over `rules`, in Cedar's JSON form by the ids they are to have.

        Raises:
            Unreadable: a rule nests too deeply for Cedar's JSON form.
        """
        data = _json.encode({"staticPolicies": rules, "templates": {}, "templateLinks": []}).decode()
        parsed = _guarded(lambda: cedarpy.PolicySet.from_json_str(data))
        return Judge(rules=parsed, entities=entities, schema=self._schema)


def _request(question: Question) -> dict[str, Any]:
    kind, name = question.principal
    return {
        "principal": {"type": kind, "id": name},
        "action": {"type": "Action", "id": question.action},
        "resource": {"type": "Operation", "id": question.resource},
        "context": question.context,
    }


def _answer(result: cedarpy.AuthzResult) -> Answer:
    found = result.diagnostics
    if found.errors:
        return Answer(allowed=False, failed=str(found.errors[0]))
    if result.decision is cedarpy.Decision.NoDecision:
        return Answer(allowed=False, failed="the engine made no decision")
    return Answer(allowed=result.decision is cedarpy.Decision.Allow, rules=tuple(sorted(found.reasons)))


def _guarded(call: Callable[[], T]) -> T:
    """Run `call`; whatever goes wrong in the binding comes out as one kind of error.

    A panic in Rust arrives as an exception outside `Exception` whose class cannot be imported, only named.
    """
    try:
        return call()
    except Exception as error:  # the binding documents `ValueError` and raises others
        raise Unreadable(str(error) or type(error).__name__) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise Unreadable("the policy engine panicked") from error
