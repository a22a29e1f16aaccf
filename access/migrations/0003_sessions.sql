-- Sessions of browsers. `hash` is the SHA-256 of the cookie; the cookie itself is not kept. Times are microseconds
-- since 1970-01-01 UTC. A session ends with the token that it was begun with.
CREATE TABLE access_sessions (
    hash BYTEA NOT NULL PRIMARY KEY,
    token_hash BYTEA NOT NULL REFERENCES access_tokens (hash) ON DELETE CASCADE,
    user_name TEXT NOT NULL REFERENCES access_users (name) ON DELETE CASCADE,
    created BIGINT NOT NULL,
    used BIGINT NOT NULL
);

CREATE INDEX access_sessions_by_user ON access_sessions (user_name, used);
CREATE INDEX access_sessions_by_token ON access_sessions (token_hash);
