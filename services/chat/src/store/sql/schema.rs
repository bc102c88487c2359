//! The tables. `docs/formats.md` ('Chat tables') describes them.

use storage::Migration;

/// Name under which the migrations are recorded.
pub(super) const SERVICE: &str = "chat";

/// Every migration, applied once, never edited.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "conversations, members, authors, messages, users, timelines, links, pairs",
    sql: "
CREATE TABLE conversation (id INTEGER PRIMARY KEY, head BLOB NOT NULL);
CREATE TABLE member (
    conversation BIGINT NOT NULL,
    user_id      BIGINT NOT NULL,
    data         BLOB   NOT NULL,
    PRIMARY KEY (conversation, user_id)
) WITHOUT ROWID;
CREATE TABLE author (
    conversation BIGINT NOT NULL,
    user_id      BIGINT NOT NULL,
    data         BLOB   NOT NULL,
    PRIMARY KEY (conversation, user_id)
) WITHOUT ROWID;
CREATE TABLE message_chunk (
    number       INTEGER PRIMARY KEY,
    conversation BIGINT  NOT NULL,
    first        BIGINT  NOT NULL,
    last         BIGINT  NOT NULL,
    last_ms      BIGINT  NOT NULL,
    messages     BLOB    NOT NULL
);
CREATE UNIQUE INDEX message_place ON message_chunk (conversation, first);
CREATE TABLE person (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE TABLE timeline_chunk (
    number  INTEGER PRIMARY KEY,
    user_id BIGINT  NOT NULL,
    first   BIGINT  NOT NULL,
    last    BIGINT  NOT NULL,
    entries BLOB    NOT NULL
);
CREATE UNIQUE INDEX timeline_place ON timeline_chunk (user_id, first);
CREATE TABLE link (
    user_id      BIGINT NOT NULL,
    conversation BIGINT NOT NULL,
    PRIMARY KEY (user_id, conversation)
) WITHOUT ROWID;
CREATE TABLE pair (
    low          BIGINT NOT NULL,
    high         BIGINT NOT NULL,
    conversation BIGINT NOT NULL,
    PRIMARY KEY (low, high)
) WITHOUT ROWID;
CREATE TABLE mark (
    one             INTEGER PRIMARY KEY CHECK (one = 1),
    position        BIGINT  NOT NULL,
    record          BIGINT  NOT NULL,
    cursor          BIGINT  NOT NULL,
    ids_reserved_ms BIGINT  NOT NULL
);
INSERT INTO mark VALUES (1, 0, 0, 0, 0);
",
}];
