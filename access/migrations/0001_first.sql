-- Users, API tokens, audit log. Times are microseconds since 1970-01-01 UTC.
CREATE TABLE access_users (
    name TEXT NOT NULL PRIMARY KEY,
    admin BOOLEAN NOT NULL
);

-- `hash` is the SHA-256 of the whole token; the token itself is not kept.
CREATE TABLE access_tokens (
    hash BYTEA NOT NULL PRIMARY KEY,
    user_name TEXT NOT NULL REFERENCES access_users (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    created BIGINT NOT NULL,
    UNIQUE (user_name, name)
);

-- `hash` covers the previous line's hash and every other column of this line: see src/audit.rs.
CREATE TABLE access_audit (
    number BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    principal TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL,
    hash BYTEA NOT NULL
);
