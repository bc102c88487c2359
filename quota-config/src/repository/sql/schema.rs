//! Tables. SQLite has them from the first version on, PostgreSQL from the second: there are two lists, whose tables are the
//! same but for the name of a column of bytes.

use storage::Migration;

/// Applied once each, never edited.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "versions of plans",
        sql: "CREATE TABLE plan_version (
    campaign    BIGINT NOT NULL,
    seq_no      BIGINT NOT NULL,
    after_seq   BIGINT NOT NULL,
    base_ms     BIGINT NOT NULL,
    source      BLOB   NOT NULL,
    sha256      BLOB   NOT NULL,
    commitments BLOB   NOT NULL,
    author      TEXT   NOT NULL,
    reason      TEXT   NOT NULL,
    at_ms       BIGINT NOT NULL,
    state       TEXT   NOT NULL CHECK (state IN ('reserved', 'active')),
    PRIMARY KEY (campaign, seq_no)
);
CREATE INDEX plan_version_active ON plan_version (campaign, seq_no) WHERE state = 'active';",
    },
    // A check can't be widened in place, so the table is made anew with everything in it.
    Migration {
        version: 2,
        name: "adjustments, grey versions, proposals, audit trail, remembered answers",
        sql: "CREATE TABLE plan_version_2 (
    campaign    BIGINT NOT NULL,
    seq_no      BIGINT NOT NULL,
    after_seq   BIGINT NOT NULL,
    kind        TEXT   NOT NULL,
    of_seq      BIGINT NOT NULL,
    base_ms     BIGINT NOT NULL,
    source      BLOB   NOT NULL,
    sha256      BLOB   NOT NULL,
    adjustments TEXT   NOT NULL,
    commitments BLOB   NOT NULL,
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
INSERT INTO plan_version_2 (campaign, seq_no, after_seq, kind, of_seq, base_ms, source, sha256, adjustments,
    commitments, author, role, reason, at_ms, proposal, approvals, summary, state, rollout)
SELECT campaign, seq_no, after_seq, 'file', 0, base_ms, source, sha256, '{}',
    commitments, author, 'operator', reason, at_ms, NULL, '[]', '[]', state, '{}' FROM plan_version;
DROP TABLE plan_version;
ALTER TABLE plan_version_2 RENAME TO plan_version;
CREATE INDEX plan_version_active ON plan_version (campaign, seq_no) WHERE state = 'active';
CREATE UNIQUE INDEX plan_version_grey ON plan_version (campaign) WHERE state = 'grey';

CREATE TABLE plan_proposal (
    id        TEXT   NOT NULL PRIMARY KEY,
    campaign  BIGINT NOT NULL,
    after_seq BIGINT NOT NULL,
    edit      TEXT   NOT NULL,
    source    BLOB,
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
    prev     BLOB   NOT NULL,
    sha256   BLOB   NOT NULL
);
CREATE TABLE plan_audit_head (
    one    BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    n      BIGINT NOT NULL,
    sha256 BLOB   NOT NULL
);

CREATE TABLE plan_remembered (
    answer_key   TEXT   NOT NULL PRIMARY KEY,
    request      BLOB   NOT NULL,
    status       BIGINT NOT NULL,
    content_type TEXT   NOT NULL,
    body         BLOB   NOT NULL,
    at_ms        BIGINT NOT NULL
);
CREATE INDEX plan_remembered_time ON plan_remembered (at_ms);",
    },
    Migration { version: 3, name: "what nodes run", sql: NODES },
];

/// The same in both.
const NODES: &str = "CREATE TABLE plan_node (
    node  BIGINT NOT NULL PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    plans TEXT   NOT NULL
);";

/// Writers wait here for each other, so that the trail is one chain.
pub(super) const WRITERS_WAIT: &str = "SELECT n FROM plan_audit_head WHERE one = 1 FOR UPDATE";

/// Applied once each, never edited.
pub(super) const POSTGRES: &[Migration] = &[
    Migration {
        version: 1,
        name: "versions of plans, proposals, audit trail, remembered answers",
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
INSERT INTO plan_audit_head (one, n, sha256) VALUES (1, 0, decode(repeat('00', 32), 'hex'));",
    },
    Migration { version: 2, name: "what nodes run", sql: NODES },
];
