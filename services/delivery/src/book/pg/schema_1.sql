-- Keyed by a slot made of the award's id, so that the orders of one moment are spread over the table.
CREATE TABLE delivery_order (
    slot            BIGINT NOT NULL,
    award           BYTEA  NOT NULL,               -- 16 bytes, big-endian
    shard           BIGINT NOT NULL,
    prize_kind      BIGINT NOT NULL,
    campaign        BIGINT NOT NULL,
    round           BIGINT NOT NULL,
    user_id         BIGINT NOT NULL,               -- the bits of a uint64
    prize           BIGINT NOT NULL,
    unit            BIGINT NOT NULL,               -- the bits of a uint64
    fen             BIGINT NOT NULL,
    vendor          BIGINT NOT NULL,
    won_ms          BIGINT NOT NULL,
    lapse_ms        BIGINT NOT NULL,
    state           BIGINT NOT NULL,
    step            BIGINT NOT NULL,
    generation      BIGINT NOT NULL,
    attempt         BIGINT NOT NULL,
    lane            BIGINT,                        -- NULL: waits for nothing
    due_ms          BIGINT NOT NULL,
    called_ms       BIGINT NOT NULL,
    first_called_ms BIGINT NOT NULL,
    failures        BIGINT NOT NULL,
    payee           TEXT   NOT NULL,
    merchant        TEXT   NOT NULL,
    body_sha256     BYTEA  NOT NULL,
    vendor_ref      TEXT   NOT NULL,
    reason          BIGINT NOT NULL,
    note            TEXT   NOT NULL,
    PRIMARY KEY (slot, award)
);

-- Partial: a finished order is in none of them.
CREATE INDEX delivery_due ON delivery_order (shard, vendor, lane, due_ms, award) WHERE lane IS NOT NULL;
CREATE INDEX delivery_held ON delivery_order (user_id, vendor, award) WHERE state = 9;
CREATE INDEX delivery_person ON delivery_order (award) WHERE state = 11;

-- Position 1, 2, 3 ... of each shard, in the order of commits. The unique key is the law: each step of an award once.
CREATE TABLE delivery_journal (
    shard      BIGINT NOT NULL,
    position   BIGINT NOT NULL,
    award      BYTEA  NOT NULL,
    step       BIGINT NOT NULL,
    state      BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    attempt    BIGINT NOT NULL,
    at_ms      BIGINT NOT NULL,
    due_ms     BIGINT NOT NULL,
    vendor     BIGINT NOT NULL,
    user_id    BIGINT NOT NULL,
    campaign   BIGINT NOT NULL,
    round      BIGINT NOT NULL,
    prize      BIGINT NOT NULL,
    fen        BIGINT NOT NULL,
    reason     BIGINT NOT NULL,
    note       TEXT   NOT NULL,
    PRIMARY KEY (shard, position),
    UNIQUE (shard, award, step)
);

-- One row a shard: whoever writes its orders holds it until the commit.
CREATE TABLE delivery_shard (
    shard    BIGINT NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL                       -- the journal's last
);

CREATE TABLE delivery_published (
    shard    BIGINT NOT NULL PRIMARY KEY,
    position BIGINT NOT NULL
);

CREATE TABLE delivery_count (
    shard  BIGINT NOT NULL,
    vendor BIGINT NOT NULL,
    state  BIGINT NOT NULL,
    orders BIGINT NOT NULL,
    fen    BIGINT NOT NULL,
    PRIMARY KEY (shard, vendor, state)
);

CREATE TABLE delivery_alarm (
    kind   TEXT   NOT NULL,
    award  BYTEA  NOT NULL,
    detail TEXT   NOT NULL,
    at_ms  BIGINT NOT NULL,
    times  BIGINT NOT NULL,
    PRIMARY KEY (kind, award)
);

CREATE TABLE delivery_account (
    bucket   BIGINT NOT NULL,                      -- of the user
    user_id  BIGINT NOT NULL,
    vendor   BIGINT NOT NULL,
    account  TEXT   NOT NULL,
    version  BIGINT NOT NULL,
    since_ms BIGINT NOT NULL,
    PRIMARY KEY (bucket, user_id, vendor)
);
