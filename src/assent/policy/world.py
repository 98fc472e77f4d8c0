"""The world a policy is about: the declared principals and operations, as Cedar's entities and for our own rules.

Cedar evaluates a rule about an absent entity as if it belonged to nothing, and a `forbid` on a group would then not
apply. So only what stands here is ever asked about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from assent.ledger.contracts import OperationContract, contract_digest
from assent.policy.cedar import Uid
from assent.policy.principals import KnownPrincipal, check_principal, entity_of
from assent.policy.rules import Rule, Scope
from assent.primitives.digests import Digest
from assent.primitives.errors import Malformed

_CALL: Uid = ("Action", "call")


class Offer(msgspec.Struct, frozen=True, kw_only=True):
    """One operation as policy sees it. `action` is its effect class."""

    contract: OperationContract
    digest: Digest
    action: str

    @property
    def name(self) -> str:
        """The name of the operation."""
        return self.contract.name

    @property
    def groups(self) -> frozenset[Uid]:
        """The entities it belongs to."""
        return frozenset({("Connector", self.contract.connector), ("EffectClass", self.action)})


class World:
    """Principals and operations by name.

    Raises:
        Malformed: a principal is not well-formed or declared twice, or an operation stands under another's name.
    """

    def __init__(self, *, contracts: Mapping[str, OperationContract], principals: Iterable[KnownPrincipal]) -> None:
        self.offers: dict[str, Offer] = {}
        for name, contract in contracts.items():
            if name != contract.name:
                raise Malformed("contract_misnamed", f"the contract of `{contract.name}` stands under `{name}`")
            self.offers[name] = Offer(contract=contract, digest=contract_digest(contract), action=contract.effect.value)
        self.principals: dict[str, KnownPrincipal] = {}
        for known in principals:
            check_principal(known)
            if known.name in self.principals:
                raise Malformed("principal_twice", f"principal `{known.name}` is declared twice")
            self.principals[known.name] = known
        self.uids: dict[str, Uid] = {name: entity_of(name) for name in self.principals}

    def entities(self) -> list[dict[str, Any]]:
        """Everything as Cedar's JSON entities."""
        roles = {role for known in self.principals.values() for role in known.roles}
        groups = {group for offer in self.offers.values() for group in offer.groups if group[0] == "Connector"}
        items = [_entity(("Role", role)) for role in sorted(roles)] + [_entity(group) for group in sorted(groups)]
        for name, known in self.principals.items():
            items.append(_entity(self.uids[name], (("Role", role) for role in dict.fromkeys(known.roles))))
        items += [_entity(("Operation", offer.name), sorted(offer.groups)) for offer in self.offers.values()]
        return items

    def reaches(self, rule: Rule, offer: Offer) -> bool:
        """Whether the head of `rule` can match calls of `offer`."""
        return _covers(rule.action, ("Action", offer.action), frozenset({_CALL})) and _covers(
            rule.resource, ("Operation", offer.name), offer.groups
        )

    def concerns(self, rule: Rule, principal: str) -> bool:
        """Whether the head of `rule` can match calls by the declared `principal`."""
        roles = frozenset(("Role", role) for role in self.principals[principal].roles)
        return _covers(rule.principal, self.uids[principal], roles)


def _covers(scope: Scope, uid: Uid, groups: frozenset[Uid]) -> bool:
    """Whether a head's constraint holds for `uid`. An operator that is not known here covers everything."""
    if scope.op == "==":
        return uid in scope.entities
    if scope.op == "is" and scope.kind != uid[0]:
        return False
    if scope.op in ("in", "is") and scope.entities:
        return uid in scope.entities or not groups.isdisjoint(scope.entities)
    return True


def _entity(uid: Uid, parents: Iterable[Uid] = ()) -> dict[str, Any]:
    return {
        "uid": {"type": uid[0], "id": uid[1]},
        "attrs": {},
        "parents": [{"type": kind, "id": name} for kind, name in parents],
    }
