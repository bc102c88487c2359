-- Keyed by award id, which rises with time, so that inserts stay at the tree's right end.
CREATE TABLE delivery_order (
    award           BLOB    NOT NULL PRIMARY KEY,  -- 16 bytes, big-endian
    prize_kind      INTEGER NOT NULL,
    campaign        INTEGER NOT NULL,
    round           INTEGER NOT NULL,
    user_id         INTEGER NOT NULL,              -- the bits of a uint64
    prize           INTEGER NOT NULL,
    unit            INTEGER NOT NULL,              -- the bits of a uint64
    fen             INTEGER NOT NULL,
    vendor          INTEGER NOT NULL,
    won_ms          INTEGER NOT NULL,
    lapse_ms        INTEGER NOT NULL,
    state           INTEGER NOT NULL,
    step            INTEGER NOT NULL,
    generation      INTEGER NOT NULL,
    attempt         INTEGER NOT NULL,
    lane            INTEGER,                       -- NULL: waits for nothing
    due_ms          INTEGER NOT NULL,
    called_ms       INTEGER NOT NULL,
    first_called_ms INTEGER NOT NULL,
    failures        INTEGER NOT NULL,
    payee           TEXT    NOT NULL,
    merchant        TEXT    NOT NULL,
    body_sha256     BLOB    NOT NULL,
    vendor_ref      TEXT    NOT NULL,
    reason          INTEGER NOT NULL,
    note            TEXT    NOT NULL,
    journal_from    INTEGER NOT NULL               -- the journal has nothing of this award before this position
) WITHOUT ROWID;

-- Partial: a finished order is in none of them.
CREATE INDEX delivery_due ON delivery_order (vendor, lane, due_ms) WHERE lane IS NOT NULL;
CREATE INDEX delivery_held ON delivery_order (user_id, vendor) WHERE state = 9;
CREATE INDEX delivery_person ON delivery_order (award) WHERE state = 11;

CREATE TABLE delivery_journal (
    position   INTEGER PRIMARY KEY,                -- 1, 2, 3 ... in the order of commits
    award      BLOB    NOT NULL,
    step       INTEGER NOT NULL,
    state      INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    at_ms      INTEGER NOT NULL,
    due_ms     INTEGER NOT NULL,
    vendor     INTEGER NOT NULL,
    user_id    INTEGER NOT NULL,
    campaign   INTEGER NOT NULL,
    round      INTEGER NOT NULL,
    prize      INTEGER NOT NULL,
    fen        INTEGER NOT NULL,
    reason     INTEGER NOT NULL,
    note       TEXT    NOT NULL
);

CREATE TABLE delivery_count (
    vendor INTEGER NOT NULL,
    state  INTEGER NOT NULL,
    orders INTEGER NOT NULL,
    fen    INTEGER NOT NULL,
    PRIMARY KEY (vendor, state)
) WITHOUT ROWID;

CREATE TABLE delivery_published (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    position INTEGER NOT NULL
);
INSERT INTO delivery_published (one, position) VALUES (1, 0);

CREATE TABLE delivery_alarm (
    kind   TEXT    NOT NULL,
    award  BLOB    NOT NULL,
    detail TEXT    NOT NULL,
    at_ms  INTEGER NOT NULL,
    times  INTEGER NOT NULL,
    PRIMARY KEY (kind, award)
) WITHOUT ROWID;

CREATE TABLE delivery_account (
    user_id   INTEGER NOT NULL,
    vendor    INTEGER NOT NULL,
    account   TEXT    NOT NULL,
    version   INTEGER NOT NULL,
    since_ms  INTEGER NOT NULL,
    PRIMARY KEY (user_id, vendor)
) WITHOUT ROWID;
