-- A user's own limits, where they are not those of everybody: JSON, a number or null (no limit) by
-- the word of the quota. Words that a release does not know are ignored.
CREATE TABLE access_quotas (
    user_name TEXT NOT NULL PRIMARY KEY REFERENCES access_users (name) ON DELETE CASCADE,
    limits TEXT NOT NULL
);
