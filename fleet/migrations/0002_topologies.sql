-- The newest topology of each node: hwloc's XML, as a zlib stream (RFC 1950); `size` is that of the text, bytes.
CREATE TABLE fleet_topologies (
    node TEXT NOT NULL PRIMARY KEY REFERENCES fleet_nodes (id) ON DELETE CASCADE,
    at BIGINT NOT NULL,
    size BIGINT NOT NULL,
    document BYTEA NOT NULL
);
