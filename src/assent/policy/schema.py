"""The Cedar schema: everything a rule may look at, with its type. No decision is made without it.

Only what something supplies is here. Principals are declared in the settings, operations by connectors; the context
comes from the intent, from the facts its operation computed, and from an approval, never from what a model claims.
"""

from __future__ import annotations

from typing import Final

SCHEMA: Final = """\
// Who asks. A role is given to principals in the settings.
entity Role;
entity Person in [Role];
entity Agent in [Role];
entity Service in [Role];

// What is asked for: an operation such as Operation::"files.read" belongs to its connector, Connector::"files", and to
// its effect class.
entity Connector;
entity EffectClass enum ["read", "write", "irreversible"];
entity Operation in [Connector, EffectClass];

// There while people have approved exactly this call (its digest is `intent`) and that has not expired.
type Approval = {
  intent: String,
  quorum: Long,
  approvers: Set<String>,
};

type Call = {
  intent: String,             // the digest of the call
  on_behalf_of: Set<String>,  // "person:…", "schedule:…", "agent:…", "service:…"; empty for a person
  run?: String,               // the run the call belongs to
  inside_workspace: Bool,     // false when a path leads outside
  path?: String,              // relative to the workspace when inside it, else as it was written
  host?: String,              // "host:port"
  method?: String,            // "GET", "POST", …
  program?: String,           // "git"; with its folder when it is not one of the system's programs
  target?: String,            // the target that is asked for; absent: any that will do
  payload_bytes: Long,        // the size of what is sent or written
  integrity: Long,            // of what the asker had seen: 3 Assent's own, 2 the person's, 1 the organisation's
                              // records, 0 a third party's
  authority_integrity: Long,  // of the weakest argument that says where or on whom the effect falls; of what the asker
                              // had seen when there is none
  untrusted: Set<String>,     // the arguments that a third party may have written
  readers_permit: Bool,       // false when it goes to a host, a person or files that may not hold it
  beyond_mandate: Bool,       // true when it goes beyond what was asked for; false when nobody said what was
  calls_in_run?: Long,        // how often the asker was let do this operation before: in this run (0 without one),
  calls_this_hour?: Long,     // since the hour began,
  calls_today?: Long,         // since midnight (UTC);
  budget_used?: Long,         // how much of the fullest of its budgets is gone, in percent (0 without one);
                              // each of these four is there wherever a rule looks at it
  approval?: Approval,
};

// The action is the effect class of the operation.
action call;
action read, write, irreversible in [call] appliesTo {
  principal: [Person, Agent, Service],
  resource: [Operation],
  context: Call,
};
"""
