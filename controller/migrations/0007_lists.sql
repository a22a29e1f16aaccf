-- What lists of what is over are filtered and sorted by: without it each row would be read past its document,
-- which may be megabytes.
CREATE INDEX controller_workflows_over ON controller_workflows (place, ended, state, submitted, name, owner_name) WHERE ended IS NOT NULL;
