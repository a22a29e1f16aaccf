-- What a workflow is, made of its document once (crate document, module plan). NULL: handed in before
-- plans were stored; it is converted when the server starts, if it is not over. The column is added
-- without a value, so no row is written anew, here or in the tables that refer to this one.
ALTER TABLE controller_workflows ADD COLUMN plan TEXT;
