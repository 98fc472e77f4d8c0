-- Guest nodes: who may come in, and what each of them said of itself. They serve the installation, so their rows stand
-- under the empty tenant, as the leases of nodes do. The fence moves whenever a guest arrives; writes that depend on its
-- lease compare it in the same statement.
CREATE TABLE guests (
    tenant              TEXT    NOT NULL,
    name                TEXT    NOT NULL,
    state               TEXT    NOT NULL,
    secret              TEXT    NOT NULL,
    secret_expires_at_ms INTEGER NOT NULL,
    key                 TEXT    NOT NULL,
    fence               INTEGER NOT NULL,
    lease_expires_at_ms INTEGER NOT NULL,
    seen_at_ms          INTEGER NOT NULL,
    offers              BLOB    NOT NULL,
    signature           BLOB    NOT NULL,
    lanes               TEXT    NOT NULL,
    described_at_ms     INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
);

-- Orders on their way to guests. `ticket` is what the hub signed, `node` and `fence` the asker's; `guest_fence` is the
-- fence it was claimed under. `late` is what came after the ticket was lost: kept, and not applied.
CREATE TABLE guest_tickets (
    tenant        TEXT    NOT NULL,
    id            TEXT    NOT NULL,
    guest         TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    node          TEXT    NOT NULL,
    fence         INTEGER NOT NULL,
    guest_fence   INTEGER NOT NULL,
    written_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    ticket        BLOB    NOT NULL,
    signature     BLOB    NOT NULL,
    outcome       BLOB,
    voucher       BLOB,
    late          BLOB,
    PRIMARY KEY (tenant, id)
);
CREATE INDEX guest_tickets_open ON guest_tickets (guest, state) WHERE (state = 'waiting' OR state = 'claimed');
