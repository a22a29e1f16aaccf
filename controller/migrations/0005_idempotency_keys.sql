-- Keys that submissions came with (header Idempotency-Key), each for a day: the same key again is
-- answered with the same workflow. `principal` is who handed it in, `request` the SHA-256 of what
-- was handed in, as `sha256:HEX`. The workflow may be forgotten before its key is.
CREATE TABLE controller_idempotency_keys (
    principal       TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    request         TEXT NOT NULL,
    workflow        TEXT NOT NULL,
    at              BIGINT NOT NULL,
    PRIMARY KEY (principal, idempotency_key)
);
CREATE INDEX controller_idempotency_keys_by_time ON controller_idempotency_keys (at);
