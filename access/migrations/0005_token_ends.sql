-- Tokens that end (`expires`, microseconds; NULL: never), that are for some actions alone (`scope`, a JSON list of their
-- words; NULL: all that the user may do), and when and from which address each was used last.
ALTER TABLE access_tokens ADD COLUMN expires BIGINT;
ALTER TABLE access_tokens ADD COLUMN scope TEXT;
ALTER TABLE access_tokens ADD COLUMN last_used BIGINT;
ALTER TABLE access_tokens ADD COLUMN last_source TEXT;
