-- Whose workflow it is, as a column of its own, so that lists and names are found without reading every document.
ALTER TABLE controller_workflows ADD COLUMN owner_name TEXT GENERATED ALWAYS AS (json_extract(owner, '$.name')) VIRTUAL;
CREATE INDEX controller_workflows_by_owner ON controller_workflows (owner_name, place) WHERE ended IS NOT NULL;
CREATE INDEX controller_workflows_by_name ON controller_workflows (name, place);
