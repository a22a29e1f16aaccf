-- An owner that is no JSON any more has no name; it must not make every write of its row fail.
DROP INDEX controller_workflows_by_owner;
ALTER TABLE controller_workflows DROP COLUMN owner_name;
ALTER TABLE controller_workflows ADD COLUMN owner_name TEXT GENERATED ALWAYS AS (CASE WHEN json_valid(owner) THEN json_extract(owner, '$.name') END) VIRTUAL;
CREATE INDEX controller_workflows_by_owner ON controller_workflows (owner_name, place) WHERE ended IS NOT NULL;
