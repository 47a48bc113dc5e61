-- Version 1. Documents are the domain's own types as JSON; columns are only what is searched for.
CREATE TABLE operation (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    subject TEXT NOT NULL,
    created_ms INTEGER NOT NULL,
    -- NULL while it runs.
    ended_ms INTEGER,
    document TEXT NOT NULL,
    parameters TEXT NOT NULL,
    locks TEXT NOT NULL,
    intent TEXT NOT NULL,
    idempotency_key TEXT,
    request_digest TEXT
) STRICT;
CREATE INDEX operation_running ON operation (number) WHERE ended_ms IS NULL;
CREATE INDEX operation_by_key ON operation (subject, idempotency_key, number) WHERE idempotency_key IS NOT NULL;
CREATE TABLE checkpoint (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    operation_id TEXT NOT NULL REFERENCES operation (id) ON DELETE CASCADE,
    document TEXT NOT NULL
) STRICT;
CREATE INDEX checkpoint_by_operation ON checkpoint (operation_id, number);
CREATE TABLE event (
    operation_id TEXT NOT NULL REFERENCES operation (id) ON DELETE CASCADE,
    seq INTEGER NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (operation_id, seq)
) STRICT, WITHOUT ROWID;
-- Operations that are about to be audited, with what is owed should nothing more be heard of them.
CREATE TABLE prepared (
    operation_id TEXT PRIMARY KEY,
    entry TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- What the audit trail has not been told yet.
CREATE TABLE owed (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    entry TEXT NOT NULL
) STRICT;
