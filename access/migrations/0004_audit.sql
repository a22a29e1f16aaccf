-- The audit log tells more, and a row is written with the change that it tells of.
--
-- `form` says what `hash` covers: 1 the columns of before, 2 those below too. See src/audit.rs.
ALTER TABLE access_audit ADD COLUMN form BIGINT NOT NULL DEFAULT 1;
ALTER TABLE access_audit ADD COLUMN object TEXT NOT NULL DEFAULT '';
ALTER TABLE access_audit ADD COLUMN difference TEXT NOT NULL DEFAULT '';
ALTER TABLE access_audit ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE access_audit ADD COLUMN token TEXT NOT NULL DEFAULT '';

-- Rows without a number yet. Each is inserted by the transaction of the change that it tells of; `outcome` is what
-- is said if nobody lives to say more.
CREATE TABLE access_audit_pending (
    id BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    principal TEXT NOT NULL,
    action TEXT NOT NULL,
    subject TEXT NOT NULL,
    outcome TEXT NOT NULL,
    object TEXT NOT NULL,
    difference TEXT NOT NULL,
    source TEXT NOT NULL,
    token TEXT NOT NULL
);
