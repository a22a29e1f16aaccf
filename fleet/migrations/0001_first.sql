-- Nodes as fleet sees them, their history and inventories. Times are microseconds since 1970-01-01 UTC.
-- `life` and `arming` are the JSON of lifecycle::Life and arming::Arming; `history` numbers the node's newest event.
CREATE TABLE fleet_nodes (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    life TEXT NOT NULL,
    arming TEXT NOT NULL,
    history BIGINT NOT NULL
);

CREATE TABLE fleet_history (
    node TEXT NOT NULL REFERENCES fleet_nodes (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    name TEXT NOT NULL,
    phase TEXT NOT NULL,
    severity TEXT NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (node, number)
);

-- The newest few inventories of each node; `document` is the JSON of api::inventory::Inventory.
CREATE TABLE fleet_inventories (
    node TEXT NOT NULL REFERENCES fleet_nodes (id) ON DELETE CASCADE,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    digest TEXT NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (node, number)
);
