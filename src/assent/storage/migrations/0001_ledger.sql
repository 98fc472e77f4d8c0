-- Every table carries the tenant, and every query names it.

-- A lease is a node's claim to act. Writes that depend on it compare the fence in the same statement.
CREATE TABLE leases (
    tenant        TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    holder        TEXT    NOT NULL,
    fence         INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- The log is the truth. `entry` is canonical JSON, `leaf` its RFC 6962 leaf hash. `payload` (with its salt) is what the
-- entry commits to; it can be erased without breaking the log.
CREATE TABLE log (
    tenant  TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    entry   BLOB    NOT NULL,
    leaf    BLOB    NOT NULL,
    salt    BLOB,
    payload BLOB,
    PRIMARY KEY (tenant, seq)
);

-- Complete Merkle subtrees of level 1 and above.
CREATE TABLE log_nodes (
    tenant TEXT    NOT NULL,
    level  INTEGER NOT NULL,
    idx    INTEGER NOT NULL,
    hash   BLOB    NOT NULL,
    PRIMARY KEY (tenant, level, idx)
);

-- The signed head, replaced in the transaction that grows the log.
CREATE TABLE log_heads (
    tenant TEXT    NOT NULL PRIMARY KEY,
    size   INTEGER NOT NULL,
    note   TEXT    NOT NULL
);

-- Signed heads that are kept for ever.
CREATE TABLE checkpoints (
    tenant TEXT    NOT NULL,
    size   INTEGER NOT NULL,
    note   TEXT    NOT NULL,
    PRIMARY KEY (tenant, size)
);

-- Where each effect stands now: a projection of the log that `verify` recomputes.
CREATE TABLE effects (
    tenant          TEXT    NOT NULL,
    id              TEXT    NOT NULL,
    key             TEXT,
    intent          TEXT    NOT NULL,
    operation       TEXT    NOT NULL,
    run             TEXT    NOT NULL,
    parent          TEXT    NOT NULL,
    state           TEXT    NOT NULL,
    code            TEXT    NOT NULL,
    review          TEXT    NOT NULL,
    attempt         INTEGER NOT NULL,
    node            TEXT    NOT NULL,
    fence           INTEGER NOT NULL,
    observations    INTEGER NOT NULL,
    first_seq       INTEGER NOT NULL,
    last_seq        INTEGER NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, key)
);

-- Written with OR because SQLite makes a temporary table for an IN at every write.
CREATE INDEX effects_open ON effects (tenant, state)
    WHERE (state = 'in_review' OR state = 'granted' OR state = 'dispatched' OR state = 'unknown' OR state = 'quarantined');
CREATE INDEX effects_by_run ON effects (tenant, run) WHERE run <> '';

-- Questions to people.
CREATE TABLE reviews (
    tenant        TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    effect        TEXT    NOT NULL,
    intent        TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    question      TEXT    NOT NULL,
    quorum        INTEGER NOT NULL,
    requested_by  TEXT    NOT NULL,
    approvers     TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    opened_at_ms  INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX reviews_by_state ON reviews (tenant, state);

-- Policy revisions, immutable, and the one that is active.
CREATE TABLE policy_revisions (
    tenant          TEXT    NOT NULL,
    revision        TEXT    NOT NULL,
    number          INTEGER NOT NULL,
    text            TEXT    NOT NULL,
    activated_by    TEXT    NOT NULL,
    activated_at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, number)
);
CREATE TABLE policy_active (
    tenant   TEXT    NOT NULL PRIMARY KEY,
    revision TEXT    NOT NULL,
    number   INTEGER NOT NULL
);
