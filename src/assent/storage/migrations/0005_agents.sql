-- Agents that can be found. An entry is there while its node's lease holds. `keys` in `agent_keys` are what it is found
-- by: its capabilities, its health, and its indexed fields.
CREATE TABLE agents (
    tenant   TEXT    NOT NULL,
    id       TEXT    NOT NULL,
    node     TEXT    NOT NULL,
    fence    INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    entry    BLOB,
    PRIMARY KEY (tenant, id)
) WITHOUT ROWID;
CREATE INDEX agents_by_revision ON agents (tenant, revision);
CREATE TABLE agent_keys (
    tenant TEXT NOT NULL,
    key    TEXT NOT NULL,
    id     TEXT NOT NULL,
    PRIMARY KEY (tenant, key, id)
) WITHOUT ROWID;
