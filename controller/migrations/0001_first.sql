-- A workflow from the moment that it was acknowledged. view is written at its end and holds what is shown of it.
CREATE TABLE controller_workflows (
    id        TEXT PRIMARY KEY,
    place     BIGINT NOT NULL UNIQUE,
    name      TEXT NOT NULL,
    owner     TEXT NOT NULL,
    document  TEXT NOT NULL,
    submitted BIGINT NOT NULL,
    started   BIGINT,
    ended     BIGINT,
    state     TEXT NOT NULL,
    reason    TEXT,
    stop      TEXT,
    homes     TEXT NOT NULL,
    view      TEXT
);
-- A stage that is not as the document alone makes it.
CREATE TABLE controller_stages (
    workflow TEXT NOT NULL REFERENCES controller_workflows (id) ON DELETE CASCADE,
    stage    BIGINT NOT NULL,
    state    TEXT NOT NULL,
    reason   TEXT,
    started  BIGINT,
    ended    BIGINT,
    result   TEXT,
    PRIMARY KEY (workflow, stage)
);
-- One attempt of a task on a node.
CREATE TABLE controller_runs (
    run       TEXT PRIMARY KEY,
    workflow  TEXT NOT NULL REFERENCES controller_workflows (id) ON DELETE CASCADE,
    stage     BIGINT NOT NULL,
    task      BIGINT NOT NULL,
    attempt   BIGINT NOT NULL,
    node      TEXT NOT NULL,
    node_name TEXT NOT NULL,
    boot      TEXT NOT NULL,
    placement TEXT,
    placed    BIGINT NOT NULL,
    accepted  BOOLEAN NOT NULL,
    started   BIGINT,
    ended     BIGINT,
    outcome   TEXT,
    cpu_micros BIGINT NOT NULL,
    memory_peak_bytes BIGINT NOT NULL,
    log_bytes BIGINT NOT NULL
);
CREATE INDEX controller_runs_by_workflow ON controller_runs (workflow, stage, task, attempt);
-- What happened, in the order of number.
CREATE TABLE controller_events (
    workflow TEXT NOT NULL REFERENCES controller_workflows (id) ON DELETE CASCADE,
    number   BIGINT NOT NULL,
    at       BIGINT NOT NULL,
    event    TEXT NOT NULL,
    stage    BIGINT,
    name     TEXT,
    message  TEXT NOT NULL,
    PRIMARY KEY (workflow, number)
);
-- Job images by the digest of their manifest.
CREATE TABLE controller_images (
    manifest TEXT PRIMARY KEY,
    image    TEXT NOT NULL,
    used     BIGINT NOT NULL
);
