-- What is needed to take out what dead nodes leave: entries by owner, and those that are gone by revision. A tenant's
-- registry knows its last revision, and its `floor`: the last change of an entry that is forgotten.
CREATE INDEX agents_by_owner ON agents (tenant, node, fence) WHERE entry IS NOT NULL;
CREATE INDEX agents_gone ON agents (tenant, revision) WHERE entry IS NULL;
CREATE TABLE agent_registries (
    tenant   TEXT    NOT NULL PRIMARY KEY,
    revision INTEGER NOT NULL,
    floor    INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO agent_registries (tenant, revision, floor) SELECT tenant, max(revision), 0 FROM agents GROUP BY tenant;
