-- The oldest lines of the audit log may be removed. A row here says that lines up to `number` are
-- gone, or go soon; `hash` is that of the last of them, which the next line follows. It is signed:
-- see src/audit/cut.rs.
CREATE TABLE access_audit_cuts (
    number BIGINT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL,
    hash TEXT NOT NULL,
    cut_at BIGINT NOT NULL,
    why TEXT NOT NULL,
    signing_key TEXT NOT NULL,
    signature TEXT NOT NULL
);

-- How much the lines that are left take, bytes. One row.
CREATE TABLE access_audit_size (
    bytes BIGINT NOT NULL
);
INSERT INTO access_audit_size (bytes)
SELECT COALESCE(SUM(96 + LENGTH(principal) + LENGTH(action) + LENGTH(subject) + LENGTH(outcome) + LENGTH(object)
                    + LENGTH(difference) + LENGTH(source) + LENGTH(token)), 0)
  FROM access_audit;
