//! The tables on PostgreSQL. `docs/formats.md` ('Flow tables') describes them.

use storage::Migration;

/// Name under which the migrations are recorded.
pub(super) const SERVICE: &str = "flow";

/// Every migration, applied once, never edited.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "awards, units, lanes, alarms, statistics",
    sql: "
CREATE TABLE flow_award (
    slot       BIGINT NOT NULL,
    id         BYTEA  NOT NULL,
    bucket     BIGINT NOT NULL DEFAULT 0,
    user_id    BIGINT NOT NULL DEFAULT 0,
    campaign   BIGINT NOT NULL DEFAULT 0,
    won        BYTEA,
    won_ms     BIGINT NOT NULL DEFAULT 0,
    vendor     BIGINT NOT NULL DEFAULT 0,
    prize_kind BIGINT NOT NULL DEFAULT 0,
    order_kind BIGINT NOT NULL DEFAULT 0,
    lapse_ms   BIGINT NOT NULL DEFAULT 0,
    doubt      BIGINT NOT NULL DEFAULT 0,
    district   BIGINT NOT NULL DEFAULT 0,
    step       BIGINT NOT NULL DEFAULT 0,
    state      BIGINT NOT NULL DEFAULT 0,
    at_ms      BIGINT NOT NULL DEFAULT 0,
    due_ms     BIGINT NOT NULL DEFAULT 0,
    since_ms   BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (slot, id)
);
CREATE INDEX flow_award_user ON flow_award (bucket, user_id, id) WHERE won IS NOT NULL;
-- Awards that delivery has not journalled, and awards on their way: small sets, so small indexes.
CREATE INDEX flow_award_due ON flow_award (vendor, won_ms) WHERE step = 0 AND doubt = 0;
CREATE INDEX flow_award_way ON flow_award (vendor, since_ms) WHERE since_ms > 0;
CREATE TABLE flow_unit (
    campaign BIGINT NOT NULL,
    round    BIGINT NOT NULL,
    prize    BIGINT NOT NULL,
    number   BIGINT NOT NULL,
    award    BYTEA  NOT NULL,
    PRIMARY KEY (campaign, round, prize, number)
);
CREATE TABLE flow_lane (
    node  BIGINT NOT NULL PRIMARY KEY,
    next  BIGINT NOT NULL,
    epoch BIGINT NOT NULL
);
CREATE TABLE flow_lane_mark (
    node     BIGINT NOT NULL,
    position BIGINT NOT NULL,
    idx      BIGINT NOT NULL,
    epoch    BIGINT NOT NULL,
    PRIMARY KEY (node, position, idx)
);
CREATE TABLE flow_alarm (
    number   BIGINT NOT NULL PRIMARY KEY,
    kind     BIGINT NOT NULL,
    award    BYTEA  NOT NULL,
    node     BIGINT NOT NULL,
    position BIGINT NOT NULL,
    other    BYTEA  NOT NULL,
    UNIQUE (kind, award)
);
CREATE TABLE flow_statistic (
    campaign        BIGINT NOT NULL,
    round           BIGINT NOT NULL,
    prize           BIGINT NOT NULL,
    vendor          BIGINT NOT NULL,
    district        BIGINT NOT NULL,
    part            BIGINT NOT NULL,
    awarded_units   BIGINT NOT NULL,
    awarded_fen     BIGINT NOT NULL,
    delivered_units BIGINT NOT NULL,
    delivered_fen   BIGINT NOT NULL,
    lapsed_units    BIGINT NOT NULL,
    lapsed_fen      BIGINT NOT NULL,
    PRIMARY KEY (campaign, round, prize, vendor, district, part)
);
CREATE TABLE flow_mark (
    name  TEXT   NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO flow_mark (name, value) VALUES ('alarms', 0);
",
}];
