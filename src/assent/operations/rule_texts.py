"""Rules to begin with: what somebody who has admitted a connector may want to paste into the policy. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from assent.ledger.contracts import EffectClass, OperationContract

_CHANGES = (EffectClass.WRITE, EffectClass.IRREVERSIBLE)


def rules_for(name: str, contracts: Sequence[OperationContract]) -> str:
    """Rules for the connector `name`: what reads is permitted, what changes something is permitted once approved.

    Only kinds of operations that there are get a rule: policy refuses rules about nothing.
    """
    effects = {contract.effect for contract in contracts}
    hosts = sorted({host for contract in contracts for host in contract.reaches})
    where = _hosts(hosts) if all(contract.reaches for contract in contracts) else ""
    rules = []
    if EffectClass.READ in effects:
        rules.append(_permit(f"{name}-read", f"reading from {name}", ['Action::"read"'], name, where))
    changing = [f'Action::"{effect}"' for effect in _CHANGES]  # both: which of them it is, people may say later
    if effects & set(_CHANGES):
        rules.append(_permit(f"{name}-change", f"people may let {name} change something", changing, name, where))
        rules.append(_review(f"{name}-change-reviewed", f"{name} may change something for good", changing, name))
    return "\n".join(rules)


def _permit(id_: str, reason: str, actions: list[str], name: str, where: str) -> str:
    return f"""@id("{id_}")
@reason("{reason}")
permit (
  principal,
  {_scope(actions)},
  resource in Connector::"{name}"
){where};
"""


def _review(id_: str, reason: str, actions: list[str], name: str) -> str:
    return f"""@id("{id_}")
@reason("{reason}")
@review("Let {name} do this?")
@quorum("1")
forbid (
  principal,
  {_scope(actions)},
  resource in Connector::"{name}"
)
unless {{ context has approval && context.approval.intent == context.intent }};
"""


def _scope(actions: list[str]) -> str:
    return f"action == {actions[0]}" if len(actions) == 1 else f"action in [{', '.join(actions)}]"


def _hosts(hosts: list[str]) -> str:
    listed = ", ".join(f'"{host}"' for host in hosts)
    return f"\nwhen {{ context has host && [{listed}].contains(context.host) }}"
