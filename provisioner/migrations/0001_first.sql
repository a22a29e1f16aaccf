-- Nodes, profiles, image versions and operations. Specifications and versions are JSON text in the form of the REST
-- API: the database checks identity, order and uniqueness, the provisioner everything else. Times are microseconds.
CREATE TABLE provisioner_nodes (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    spec TEXT NOT NULL,
    version BIGINT NOT NULL
);
CREATE TABLE provisioner_profiles (
    name TEXT NOT NULL PRIMARY KEY,
    spec TEXT NOT NULL,
    version BIGINT NOT NULL
);
-- Survives the deletion of versions, so that a number never names two contents.
CREATE TABLE provisioner_image_names (
    name TEXT NOT NULL PRIMARY KEY,
    last_version BIGINT NOT NULL
);
CREATE TABLE provisioner_image_versions (
    name TEXT NOT NULL,
    version BIGINT NOT NULL,
    body TEXT NOT NULL,
    substrate TEXT NOT NULL,
    layers TEXT NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE TABLE provisioner_operations (
    id BIGINT NOT NULL PRIMARY KEY,
    request TEXT NOT NULL,
    body TEXT NOT NULL,
    ended BOOLEAN NOT NULL
);
