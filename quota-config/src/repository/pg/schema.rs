//! Tables: those of SQLite as they stand today, with PostgreSQL's name for bytes. The head of the trail is there from
//! the beginning, because its row is the lock of every change.

use storage::Migration;

/// Applied once each, never edited.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "versions, proposals, audit trail, remembered answers",
    sql: "CREATE TABLE plan_version (
    campaign    BIGINT NOT NULL,
    seq_no      BIGINT NOT NULL,
    after_seq   BIGINT NOT NULL,
    kind        TEXT   NOT NULL,
    of_seq      BIGINT NOT NULL,
    base_ms     BIGINT NOT NULL,
    source      BYTEA  NOT NULL,
    sha256      BYTEA  NOT NULL,
    adjustments TEXT   NOT NULL,
    commitments BYTEA  NOT NULL,
    author      TEXT   NOT NULL,
    role        TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    at_ms       BIGINT NOT NULL,
    proposal    TEXT,
    approvals   TEXT   NOT NULL,
    summary     TEXT   NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('reserved', 'active', 'grey', 'withdrawn', 'promoted')),
    rollout     TEXT   NOT NULL,
    PRIMARY KEY (campaign, seq_no)
);
CREATE INDEX plan_version_active ON plan_version (campaign, seq_no) WHERE state = 'active';
CREATE UNIQUE INDEX plan_version_grey ON plan_version (campaign) WHERE state = 'grey';

CREATE TABLE plan_proposal (
    id        TEXT   NOT NULL PRIMARY KEY,
    campaign  BIGINT NOT NULL,
    after_seq BIGINT NOT NULL,
    edit      TEXT   NOT NULL,
    source    BYTEA,
    author    TEXT   NOT NULL,
    role      TEXT   NOT NULL,
    reason    TEXT   NOT NULL,
    at_ms     BIGINT NOT NULL,
    needs_two TEXT   NOT NULL,
    summary   TEXT   NOT NULL,
    state     TEXT   NOT NULL CHECK (state IN ('waiting', 'approved', 'rejected', 'superseded')),
    decision  TEXT
);
CREATE INDEX plan_proposal_time ON plan_proposal (at_ms, id);
CREATE INDEX plan_proposal_waiting ON plan_proposal (campaign) WHERE state = 'waiting';

CREATE TABLE plan_audit (
    n        BIGINT NOT NULL PRIMARY KEY,
    at_ms    BIGINT NOT NULL,
    who      TEXT   NOT NULL,
    role     TEXT   NOT NULL,
    action   TEXT   NOT NULL,
    campaign BIGINT NOT NULL,
    seq_no   BIGINT NOT NULL,
    detail   TEXT   NOT NULL,
    prev     BYTEA  NOT NULL,
    sha256   BYTEA  NOT NULL
);
CREATE TABLE plan_audit_head (
    one    BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    n      BIGINT NOT NULL,
    sha256 BYTEA  NOT NULL
);

CREATE TABLE plan_remembered (
    answer_key   TEXT   NOT NULL PRIMARY KEY,
    request      BYTEA  NOT NULL,
    status       BIGINT NOT NULL,
    content_type TEXT   NOT NULL,
    body         BYTEA  NOT NULL,
    at_ms        BIGINT NOT NULL
);
CREATE INDEX plan_remembered_time ON plan_remembered (at_ms);
INSERT INTO plan_audit_head (one, n, sha256)
    VALUES (1, 0, '\\x0000000000000000000000000000000000000000000000000000000000000000');",
}];
