-- Users that run jobs: numbers of the site's file systems. user_groups is a JSON list of numbers.
ALTER TABLE access_users ADD COLUMN uid BIGINT;
ALTER TABLE access_users ADD COLUMN gid BIGINT;
ALTER TABLE access_users ADD COLUMN user_groups TEXT;
ALTER TABLE access_users ADD COLUMN comment TEXT;
