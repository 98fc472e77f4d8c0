-- Journals: durable conversations and pieces of work. A row says where a journal stands now; what happened stands in the
-- log, each entry naming the one before it. `node` and `fence` are whose it is while somebody works on it.
CREATE TABLE journals (
    tenant        TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    name          TEXT    NOT NULL,
    parent        TEXT    NOT NULL,
    node          TEXT    NOT NULL,
    fence         INTEGER NOT NULL,
    entries       INTEGER NOT NULL,
    first_seq     INTEGER NOT NULL,
    last_seq      INTEGER NOT NULL,
    updated_at_ms INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, id)
);
CREATE INDEX journals_by_state ON journals (tenant, kind, state, updated_at_ms);
CREATE INDEX journals_by_parent ON journals (tenant, kind, parent, first_seq);

-- What may stand in a journal only once: a message by its channel's id, a final reply by what it answers.
CREATE TABLE journal_keys (
    tenant  TEXT    NOT NULL,
    kind    TEXT    NOT NULL,
    journal TEXT    NOT NULL,
    key     TEXT    NOT NULL,
    digest  TEXT    NOT NULL,
    seq     INTEGER NOT NULL,
    PRIMARY KEY (tenant, kind, journal, key)
);

-- Pieces that many calls name by digest, kept once: what a model is told grows by a little at every turn.
CREATE TABLE contents (
    tenant TEXT NOT NULL,
    digest TEXT NOT NULL,
    data   BLOB NOT NULL,
    PRIMARY KEY (tenant, digest)
);
