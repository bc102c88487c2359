//! The tables. `docs/formats.md` ('Chat tables on PostgreSQL') describes them.
//!
//! All are divided by hash of the conversation or the user into [`PARTS`] parts, so that indexes and cleaning stay
//! small and servers of the same wire can spread them. What changes with every message (versions, positions, rows of
//! members and authors) stands in no index, so that a changed row finds its place on the page of the old one; the parts
//! leave room for that.

use storage::Migration;

/// The schema of all of chat's tables: the owners' tables have the names that lottery's have.
pub const SCHEMA: &str = "chat";

/// Name under which the migrations are recorded.
pub(super) const SERVICE: &str = "chat";

/// Every migration, applied once, never edited.
pub(super) const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "conversations, names, members, authors, messages, persons, entries, links, reserved ids",
    sql: "
CREATE TABLE conversation (
    id             BIGINT  NOT NULL PRIMARY KEY,
    bucket         BIGINT  NOT NULL,
    version        BIGINT  NOT NULL,
    last_seq       BIGINT  NOT NULL,
    fanned_version BIGINT  NOT NULL,
    fanned_seq     BIGINT  NOT NULL,
    behind         BOOLEAN NOT NULL,
    head           BYTEA   NOT NULL
) PARTITION BY HASH (id);
CREATE INDEX conversation_behind ON conversation (bucket, id) WHERE behind;
CREATE TABLE conversation_name (
    kind         BIGINT NOT NULL,
    a            BIGINT NOT NULL,
    b            BIGINT NOT NULL,
    c            BIGINT NOT NULL,
    conversation BIGINT NOT NULL,
    PRIMARY KEY (a, b, c, kind)
) PARTITION BY HASH (a, b);
CREATE TABLE member (
    conversation BIGINT NOT NULL,
    user_id      BIGINT NOT NULL,
    data         BYTEA  NOT NULL,
    PRIMARY KEY (conversation, user_id)
) PARTITION BY HASH (conversation);
CREATE TABLE author (
    conversation BIGINT NOT NULL,
    user_id      BIGINT NOT NULL,
    data         BYTEA  NOT NULL,
    PRIMARY KEY (conversation, user_id)
) PARTITION BY HASH (conversation);
CREATE TABLE message (
    conversation BIGINT NOT NULL,
    seq          BIGINT NOT NULL,
    data         BYTEA  NOT NULL,
    PRIMARY KEY (conversation, seq)
) PARTITION BY HASH (conversation);
CREATE TABLE person (
    user_id BIGINT NOT NULL PRIMARY KEY,
    stamp   BIGINT NOT NULL,
    data    BYTEA  NOT NULL
) PARTITION BY HASH (user_id);
CREATE TABLE entry (
    user_id      BIGINT NOT NULL,
    cursor       BIGINT NOT NULL,
    conversation BIGINT NOT NULL,
    seq          BIGINT NOT NULL,
    PRIMARY KEY (user_id, conversation, seq)
) PARTITION BY HASH (user_id);
CREATE UNIQUE INDEX entry_place ON entry (user_id, cursor) INCLUDE (conversation, seq);
CREATE TABLE link (
    user_id      BIGINT  NOT NULL,
    conversation BIGINT  NOT NULL,
    version      BIGINT  NOT NULL,
    member       BOOLEAN NOT NULL,
    large        BOOLEAN NOT NULL,
    PRIMARY KEY (user_id, conversation)
) PARTITION BY HASH (user_id);
CREATE TABLE reserved_ids (
    node      BIGINT NOT NULL PRIMARY KEY,
    before_ms BIGINT NOT NULL,
    until_ms  BIGINT NOT NULL
);
DO $$
DECLARE
    whole TEXT;
    room  INT;
BEGIN
    FOREACH whole IN ARRAY ARRAY['conversation', 'conversation_name', 'member', 'author', 'message', 'person',
                                 'entry', 'link'] LOOP
        room := CASE WHEN whole IN ('conversation', 'member', 'author', 'person') THEN 75 ELSE 100 END;
        FOR part IN 0..15 LOOP
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS 16, REMAINDER %s) WITH (fillfactor = %s)',
                whole || '_' || part, whole, part, room);
        END LOOP;
    END LOOP;
END
$$;
",
}];

#[cfg(test)]
mod tests {
    use super::MIGRATIONS;
    use crate::store::PARTS;

    #[test]
    fn as_many_parts_as_it_says() {
        assert!(MIGRATIONS[0].sql.contains(&format!("MODULUS {PARTS},")));
        assert!(MIGRATIONS[0].sql.contains(&format!("0..{} LOOP", PARTS - 1)));
    }
}
