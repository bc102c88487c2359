CREATE TABLE plan_version (
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
CREATE INDEX plan_version_active ON plan_version (campaign, seq_no) WHERE state = 'active';
