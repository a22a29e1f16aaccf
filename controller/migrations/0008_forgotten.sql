-- Workflows that were forgotten and whose logs and files may still be there. Only these are removed when
-- the server starts: others that the database does not have may be of another one, or newer than it.
CREATE TABLE controller_forgotten (
    workflow TEXT PRIMARY KEY
);
