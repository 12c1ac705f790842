-- For the form on leadpool: as `leadpool::outcome::TokenTable::migration` prints it.
CREATE TABLE IF NOT EXISTS leadpool_token (
    token uuid PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT pg_catalog.now()
);
CREATE INDEX IF NOT EXISTS "leadpool_token_created_at" ON leadpool_token USING brin (created_at);
