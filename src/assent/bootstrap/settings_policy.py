"""What it takes to put a policy in force.

[policy]  signers: their public keys, as `assent policy sign` prints them; needed: how many must have signed
          by_review: another policy comes into force only by a call that the policy in force lets through
"""

from __future__ import annotations

from assent.bootstrap.settings_text import Document
from assent.ledger.checkpoints import VerifierKey
from assent.ledger.policy_signatures import SIGNATURES_MAX, Signers
from assent.primitives.errors import Malformed

POLICY_KEYS = ("signers", "needed", "by_review")


def read_signers(document: Document) -> Signers:
    """Who signs policies, by a document; what is wrong is added to its faults."""
    document.only(("policy",), POLICY_KEYS)
    place = ("policy", "signers")
    keys: dict[bytes, VerifierKey] = {}
    for text in document.texts(place):
        try:
            key = VerifierKey.decode(text)
        except Malformed as malformed:
            document.fault(place, str(malformed))
            continue
        if key.public in keys:
            document.fault(place, f"`{key.name}` and `{keys[key.public].name}` have the same key, which signs once")
        keys[key.public] = key
    if len(keys) > SIGNATURES_MAX:
        document.fault(place, f"there are more than {SIGNATURES_MAX} signers")
    needed = document.number(("policy", "needed"), default=1, least=1, most=SIGNATURES_MAX)
    if needed > max(1, len(keys)) or (document.has(("policy", "needed")) and not document.has(place)):
        document.fault(("policy", "needed"), f"{needed} cannot sign: there are {len(keys)} signers")
    return Signers(keys=tuple(keys.values()), needed=needed)
