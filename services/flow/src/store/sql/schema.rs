//! The tables. `docs/formats.md` ('Flow tables') describes them.

use storage::Migration;

/// Name under which the migrations are recorded.
pub(super) const SERVICE: &str = "flow";

/// Every migration, applied once, never edited.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "awards, units, users, lanes, alarms, statistics",
        sql: "
CREATE TABLE award (
    seq        INTEGER PRIMARY KEY,
    id         BLOB    NOT NULL UNIQUE,
    won        BLOB    NOT NULL,
    won_ms     BIGINT  NOT NULL,
    vendor     BIGINT  NOT NULL,
    prize_kind INTEGER NOT NULL,
    order_kind INTEGER NOT NULL,
    lapse_ms   BIGINT  NOT NULL,
    doubt      INTEGER NOT NULL,
    step       BIGINT  NOT NULL DEFAULT 0,
    state      INTEGER NOT NULL DEFAULT 0,
    at_ms      BIGINT  NOT NULL DEFAULT 0,
    due_ms     BIGINT  NOT NULL DEFAULT 0,
    since_ms   BIGINT  NOT NULL DEFAULT 0
);
-- Awards that delivery has not journalled, and awards on their way: small sets, so small indexes.
CREATE INDEX award_due ON award (vendor, won_ms) WHERE step = 0 AND doubt = 0;
CREATE INDEX award_way ON award (vendor, since_ms) WHERE since_ms > 0;
CREATE TABLE unit (
    campaign BIGINT NOT NULL,
    round    BIGINT NOT NULL,
    prize    BIGINT NOT NULL,
    number   BIGINT NOT NULL,
    award    BLOB   NOT NULL,
    PRIMARY KEY (campaign, round, prize, number)
) WITHOUT ROWID;
CREATE TABLE user_award (
    bucket  INTEGER NOT NULL,
    user_id BIGINT  NOT NULL,
    award   BLOB    NOT NULL,
    PRIMARY KEY (bucket, user_id, award)
) WITHOUT ROWID;
CREATE TABLE early_step (
    award    BLOB    NOT NULL PRIMARY KEY,
    step     BIGINT  NOT NULL,
    state    INTEGER NOT NULL,
    at_ms    BIGINT  NOT NULL,
    due_ms   BIGINT  NOT NULL,
    since_ms BIGINT  NOT NULL
) WITHOUT ROWID;
CREATE TABLE lane (
    node INTEGER NOT NULL PRIMARY KEY,
    next BIGINT  NOT NULL
);
CREATE TABLE lane_mark (
    node     INTEGER NOT NULL,
    position BIGINT  NOT NULL,
    idx      BIGINT  NOT NULL,
    epoch    BIGINT  NOT NULL,
    PRIMARY KEY (node, position, idx)
);
CREATE TABLE alarm (
    number   INTEGER PRIMARY KEY,
    kind     INTEGER NOT NULL,
    award    BLOB    NOT NULL,
    node     INTEGER NOT NULL,
    position BIGINT  NOT NULL,
    other    BLOB    NOT NULL,
    UNIQUE (kind, award)
);
CREATE TABLE statistic (
    campaign        BIGINT NOT NULL,
    round           BIGINT NOT NULL,
    prize           BIGINT NOT NULL,
    vendor          BIGINT NOT NULL,
    district        BIGINT NOT NULL,
    awarded_units   BIGINT NOT NULL,
    awarded_fen     BIGINT NOT NULL,
    delivered_units BIGINT NOT NULL,
    delivered_fen   BIGINT NOT NULL,
    lapsed_units    BIGINT NOT NULL,
    lapsed_fen      BIGINT NOT NULL,
    PRIMARY KEY (campaign, round, prize, vendor, district)
) WITHOUT ROWID;
CREATE TABLE mark (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO mark (name, value) VALUES ('users_to', 0);
",
    },
    Migration {
        version: 2,
        name: "epochs of lanes",
        sql: "ALTER TABLE lane ADD COLUMN epoch BIGINT NOT NULL DEFAULT 0;",
    },
];
