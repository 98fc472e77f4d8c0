"""How an approved change of the policy is carried out: in this very process, which has the database open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assent.execution.functions import Callee
from assent.operations.policies import Policies
from assent.operations.policy_changes import NAME, POLICY_ACTIVATE


def callees(policies: Policies) -> Mapping[str, Callee]:
    """What the function lane calls for `policy.activate`."""

    async def activate(said: dict[str, Any]) -> dict[str, Any]:
        done = await policies.replace(
            said["tenant"], said["text"], revision=said["revision"], replaces=said["replaces"], by=said["by"],
            signatures=said["signatures"],
        )  # fmt: skip
        return {"number": done.number, "revision": done.revision, "rules": len(done.report.rules)}

    return {NAME: Callee(definition=POLICY_ACTIVATE.definition, call=activate)}
