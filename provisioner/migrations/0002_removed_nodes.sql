-- Nodes that were deleted and whose files (host keys) are still to be removed.
CREATE TABLE provisioner_removed_nodes (
    id TEXT NOT NULL PRIMARY KEY
);
