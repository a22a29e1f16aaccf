-- The JSON of enrolments::Enrolments: which certificates of the node are good. `{}` is a node whose certificates tell
-- no enrolment, as those of the releases before.
ALTER TABLE fleet_nodes ADD COLUMN enrolments TEXT NOT NULL DEFAULT '{}';
