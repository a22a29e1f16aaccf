-- An attempt of a task has a run for each of its members. Every run that is here is the one member of its
-- attempt: the column is added with that as its constant value, so no row is written anew, however many
-- there are. An attempt of one member has no row of its own: all of it is in its run's.
ALTER TABLE controller_runs ADD COLUMN member BIGINT NOT NULL DEFAULT 0;
CREATE TABLE controller_attempts (
    workflow TEXT NOT NULL REFERENCES controller_workflows (id) ON DELETE CASCADE,
    stage    BIGINT NOT NULL,
    task     BIGINT NOT NULL,
    attempt  BIGINT NOT NULL,
    members  BIGINT NOT NULL,
    placed   BIGINT NOT NULL,
    released BIGINT,
    ended    BIGINT,
    outcome  TEXT,
    PRIMARY KEY (workflow, stage, task, attempt)
);
