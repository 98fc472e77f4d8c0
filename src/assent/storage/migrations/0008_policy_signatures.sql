-- Who signed a policy revision: lines of `ledger/policy_signatures.py`, empty when nobody did.
ALTER TABLE policy_revisions ADD COLUMN signatures TEXT NOT NULL DEFAULT '';
