//! The ledger's tables. The key of each is rising or small; the only other index has the open leases alone.

use storage::Migration;

/// Name under which [`MIGRATIONS`] are recorded.
pub const SERVICE: &str = "ledger";

/// The tables.
pub const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "campaigns, vendors, prizes, leases",
    sql: "
CREATE TABLE ledger_campaign (
    campaign BIGINT NOT NULL PRIMARY KEY,
    seq_no   BIGINT NOT NULL
);
CREATE TABLE ledger_vendor (
    campaign           BIGINT NOT NULL,
    vendor             BIGINT NOT NULL,
    seq_no             BIGINT NOT NULL,
    release_per_second BIGINT NOT NULL,
    slots              TEXT   NOT NULL,
    PRIMARY KEY (campaign, vendor)
);
CREATE TABLE ledger_prize (
    campaign         BIGINT NOT NULL,
    round            BIGINT NOT NULL,
    prize            BIGINT NOT NULL,
    vendor           BIGINT NOT NULL,
    seq_no           BIGINT NOT NULL,
    change_seq_no    BIGINT NOT NULL,
    open_ms          BIGINT NOT NULL,
    close_ms         BIGINT NOT NULL,
    curve            TEXT   NOT NULL,
    speed_max        BIGINT NOT NULL,
    catch_up_percent BIGINT NOT NULL,
    made             BIGINT NOT NULL,
    fresh            TEXT   NOT NULL,
    came_back        TEXT   NOT NULL,
    cancelled        TEXT   NOT NULL,
    leased           BIGINT NOT NULL,
    used             BIGINT NOT NULL,
    base_units       BIGINT NOT NULL,
    base_ms          BIGINT NOT NULL,
    paused           BIGINT NOT NULL,
    recall_ms        BIGINT NOT NULL,
    slots            TEXT   NOT NULL,
    PRIMARY KEY (campaign, round, prize)
);
CREATE TABLE ledger_lease (
    node           BIGINT NOT NULL,
    epoch          BIGINT NOT NULL,
    lease          BIGINT NOT NULL,
    campaign       BIGINT NOT NULL,
    round          BIGINT NOT NULL,
    prize          BIGINT NOT NULL,
    seq_no         BIGINT NOT NULL,
    granted_ms     BIGINT NOT NULL,
    round_close_ms BIGINT NOT NULL,
    ranges         TEXT   NOT NULL,
    closed_ms      BIGINT,
    closed_by      BIGINT,
    used           BIGINT,
    came_back      TEXT,
    PRIMARY KEY (node, epoch, lease)
);
CREATE INDEX ledger_lease_open ON ledger_lease (node, epoch, lease) WHERE closed_ms IS NULL;
",
}];

pub const VENDOR_COLUMNS: &str = "campaign, vendor, seq_no, release_per_second, slots";

pub const PRIZE_COLUMNS: &str = "campaign, round, prize, vendor, seq_no, change_seq_no, open_ms, close_ms, curve, \
     speed_max, catch_up_percent, made, fresh, came_back, cancelled, leased, used, base_units, base_ms, paused, \
     recall_ms, slots";

pub const LEASE_COLUMNS: &str = "node, epoch, lease, campaign, round, prize, seq_no, granted_ms, round_close_ms, \
     ranges, closed_ms, closed_by, used, came_back";
