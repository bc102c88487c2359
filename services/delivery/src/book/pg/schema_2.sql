-- Paces towards vendors that people have set. The highest number stands.
CREATE TABLE delivery_limit (
    vendor     BIGINT NOT NULL PRIMARY KEY,
    per_second BIGINT,                             -- NULL: as configured
    number     BIGINT NOT NULL,                    -- of its row in the audit trail
    who        TEXT   NOT NULL,
    at_ms      BIGINT NOT NULL
);

-- What nodes do at the moment, for whoever looks.
CREATE TABLE delivery_node (
    node       BIGINT NOT NULL,
    vendor     BIGINT NOT NULL,
    per_second BIGINT NOT NULL,
    cut_off    BIGINT NOT NULL,
    at_ms      BIGINT NOT NULL,                    -- by the database's clock
    PRIMARY KEY (node, vendor)
);
