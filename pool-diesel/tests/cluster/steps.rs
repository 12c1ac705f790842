//! Migrations for the tests of both worlds, and what they leave behind.

use std::fmt;

use diesel::{
    connection::BoxableConnection,
    migration::{
        Migration, MigrationMetadata, MigrationName, MigrationSource, MigrationVersion, Result,
    },
    pg::Pg,
};
use leadpool_diesel::leadpool;
use leadpool_testkit::Cluster as Servers;

use crate::{migrations::is_as_on_diesels, support::until};

/// A gate in a migration: open, unless somebody holds it on the same host.
pub(crate) const GATE: &str = "SELECT pg_advisory_lock(77)";
/// leadpool's, taken as its documentation says.
pub(crate) const LOCK: &str = "SELECT pg_advisory_lock(7810756212754968428)";

#[derive(Clone, Copy)]
pub(crate) struct Step {
    version: i64,
    sql: &'static str,
    in_transaction: bool,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "number {}", self.version)
    }
}

impl MigrationName for Step {
    fn version(&self) -> MigrationVersion<'_> {
        self.version.to_string().into()
    }
}

impl MigrationMetadata for Step {
    fn run_in_transaction(&self) -> bool {
        self.in_transaction
    }
}

impl Migration<Pg> for Step {
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        assert_ne!(self.sql, "panic", "it panics");
        assert!(is_as_on_diesels(conn));
        Ok(conn.batch_execute(self.sql)?)
    }

    fn revert(&self, _: &mut dyn BoxableConnection<Pg>) -> Result<()> {
        Err("it can't be undone".into())
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self
    }

    fn name(&self) -> &dyn MigrationName {
        self
    }
}

#[derive(Clone)]
pub(crate) struct Steps(pub(crate) Vec<Step>);

impl MigrationSource<Pg> for Steps {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        let boxed = |step: &Step| -> Box<dyn Migration<Pg>> { Box::new(*step) };
        Ok(self.0.iter().map(boxed).collect())
    }
}

pub(crate) fn migration(version: i64, sql: &'static str) -> Step {
    Step {
        version,
        sql,
        in_transaction: true,
    }
}

pub(crate) fn without_transaction(version: i64, sql: &'static str) -> Step {
    Step {
        in_transaction: false,
        ..migration(version, sql)
    }
}

/// Three, of which the second waits at the gate.
pub(crate) fn gated() -> Steps {
    Steps(vec![
        migration(3, "INSERT INTO t (n) VALUES (3)"),
        migration(1, "INSERT INTO t (n) VALUES (1)"),
        migration(
            2,
            "INSERT INTO t (n) VALUES (2); SELECT pg_advisory_xact_lock(77)",
        ),
    ])
}

pub(crate) fn texts(versions: &[MigrationVersion<'_>]) -> Vec<String> {
    versions.iter().map(ToString::to_string).collect()
}

/// What the migrations have left on a host: each has left its number.
pub(crate) async fn left(servers: &Servers, host: usize) -> Vec<i64> {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT coalesce(array_agg(n ORDER BY n), '{}') FROM t";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

pub(crate) async fn versions_in(servers: &Servers, host: usize, table: &str) -> Vec<String> {
    let client = servers.connect(host).await.unwrap();
    let sql = format!("SELECT version FROM {table} ORDER BY version");
    let rows = client.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// What diesel's table says.
pub(crate) async fn entered(servers: &Servers, host: usize) -> Vec<String> {
    versions_in(servers, host, "__diesel_schema_migrations").await
}

pub(crate) async fn marked(servers: &Servers, host: usize) -> Vec<String> {
    versions_in(servers, host, "__leadpool_begun_migrations").await
}

pub(crate) async fn hold(
    servers: &Servers,
    host: usize,
    lock: &str,
) -> leadpool::tokio_postgres::Client {
    let client = servers.connect(host).await.unwrap();
    client.batch_execute(lock).await.unwrap();
    client
}

/// Waits until a migration stands at the gate.
pub(crate) async fn at_the_gate(servers: &Servers, host: usize) {
    let client = servers.connect(host).await.unwrap();
    let sql =
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 77 AND NOT granted";
    until("the migration at the gate", async || {
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
}

/// Waits until somebody has asked for the lock.
pub(crate) async fn asks_for_the_lock(servers: &Servers, host: usize) {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_try_advisory_lock($1)%' \
               AND pid <> pg_backend_pid()";
    until("the wait for the lock", async || {
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) > 0
    })
    .await;
}

/// Nobody holds the lock, sooner or later.
pub(crate) async fn no_locks(servers: &Servers, host: usize) {
    let client = servers.connect(host).await.unwrap();
    let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid <> 77";
    until("the end of the lock", async || {
        client.query_one(sql, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
}
