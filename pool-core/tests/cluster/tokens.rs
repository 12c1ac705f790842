//! The table of tokens: what the log can't prove.

use std::time::Duration;

use leadpool::{
    Error, Pool,
    config::ConfigBuilder,
    outcome::{Doubt, Outcome, TokenTable},
};
use leadpool_testkit::{Cluster as Servers, ClusterBuilder, Moment};

use crate::{in_doubt::*, support::*};

const TABLE: &str = "leadpool_token";

fn with_tokens(config: ConfigBuilder) -> ConfigBuilder {
    config.token_table(TABLE)
}

/// Servers with the table, and the pool of a role that may read it and insert.
async fn start_with_tokens(builder: ClusterBuilder) -> (Servers, Pool) {
    let (servers, _) = start_with(builder).await;
    let owner = connect_with(&servers.proxied_url(), with_tokens)
        .await
        .unwrap();
    owner.create_token_table().await.unwrap();
    let pool = ordinary(&servers, with_tokens).await;
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = format!("GRANT SELECT, INSERT ON {TABLE} TO app");
    client.batch_execute(&sql).await.unwrap();
    servers.wait_replayed().await.unwrap();
    (servers, pool)
}

/// One that has seen nothing, of the same role.
async fn late(servers: &Servers) -> (Pool, Pool) {
    let url = servers.proxied_url();
    let with = connect_with(&url, |config| with_tokens(config.user("app")));
    let without = connect_with(&url, |config| config.user("app"));
    (with.await.unwrap(), without.await.unwrap())
}

async fn tokens(servers: &Servers) -> i64 {
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = format!("SELECT count(*) FROM {TABLE}");
    client.query_one(&sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn every_transaction_that_writes_leaves_one() {
    let (servers, pool) = start_with_tokens(lazy()).await;
    for expected in 1..=3 {
        insert(&pool).await;
        assert_eq!(tokens(&servers).await, expected);
    }
    pool.run_tx(|tx| async move { Ok(tx.query("SELECT n FROM t", &[]).await?) })
        .await
        .unwrap();
    assert_eq!(tokens(&servers).await, 3, "one that reads left one");
    let failed = pool
        .run_tx(|tx| async move {
            tx.execute(INSERT, &[]).await?;
            Err::<(), _>(Error::user("no"))
        })
        .await;
    assert!(matches!(failed, Err(Error::User(_))));
    assert_eq!(tokens(&servers).await, 3, "one that failed left one");
}

async fn insert(pool: &Pool) {
    pool.run_tx(|tx| async move {
        tx.execute(INSERT, &[]).await?;
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_lost_commit_is_repeated_only_if_it_did_not_happen() {
    let (servers, pool) = start_with_tokens(lazy()).await;
    for (number, moment) in [
        Moment::BeforeForward,
        Moment::Stranded,
        Moment::AfterForward,
        Moment::BeforeAnswer,
    ]
    .into_iter()
    .enumerate()
    {
        let proxy = servers.proxy(0).unwrap();
        proxy.cut_at(leadpool_testkit::Trigger::new("COMMIT", moment));
        insert(&pool).await;
        let expected = i64::try_from(number).unwrap() + 1;
        assert_eq!(found(&servers).await, expected, "{moment:?}");
        assert_eq!(tokens(&servers).await, expected, "{moment:?}");
    }
}

#[tokio::test]
async fn a_token_proves_a_commit_whose_flush_was_not_seen() {
    let (servers, pool) = start_with_tokens(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    restart(&servers, &pool).await;
    let (with, without) = late(&servers).await;
    let outcome = resolved(&servers, &without, &evidence).await;
    assert_eq!(outcome, Err(Doubt::NotFlushed));
    let outcome = resolved(&servers, &with, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
}

/// Two promotions, of which a pool that comes later has seen neither.
async fn promoted_twice(servers: &Servers, pool: &Pool) {
    fail_over(servers, pool, 1).await;
    servers.repoint(2, 1).await.unwrap();
    servers.wait_replayed().await.unwrap();
    fail_over(servers, pool, 2).await;
}

#[tokio::test]
async fn a_token_proves_a_commit_over_promotions_that_were_not_seen() {
    let (servers, pool) = start_with_tokens(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    servers.wait_replayed().await.unwrap();
    promoted_twice(&servers, &pool).await;
    let (with, without) = late(&servers).await;
    let outcome = resolved(&servers, &without, &evidence).await;
    assert_eq!(outcome, Err(Doubt::SwitchUnseen));
    let outcome = resolved(&servers, &with, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
}

#[tokio::test]
async fn a_missing_token_proves_that_another_has_used_the_id_again() {
    let (servers, pool) = start_with_tokens(lazy()).await;
    detach(&servers, &[1, 2]).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    servers.kill(servers.primary()).await.unwrap();
    for standby in [1, 2] {
        servers.start_host(standby).await.unwrap();
    }
    servers.promote(1).await.unwrap();
    servers.repoint(2, 1).await.unwrap();
    follows(&servers, &pool).await;
    // Past the marker, so that its position says nothing either.
    reuse(&servers, &evidence).await;
    beyond(&servers, &evidence).await;
    servers.wait_replayed().await.unwrap();
    fail_over(&servers, &pool, 2).await;
    let (with, without) = late(&servers).await;
    let outcome = resolved(&servers, &without, &evidence).await;
    assert_eq!(outcome, Err(Doubt::SwitchUnseen));
    let outcome = resolved(&servers, &with, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::NotCommitted));
}

#[tokio::test]
async fn a_token_that_may_have_been_cleaned_away_proves_nothing() {
    let (servers, pool) = start_with_tokens(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    restart(&servers, &pool).await;
    let client = servers.connect(servers.primary()).await.unwrap();
    let sql = format!("DELETE FROM {TABLE}");
    client.batch_execute(&sql).await.unwrap();
    let old = rewritten(&evidence, |fields| {
        let began_at: i64 = fields[10].parse().unwrap();
        assert_eq!(began_at, evidence.began_at, "not the field that was meant");
        fields[10] = (began_at - 25 * 3_600 * 1_000_000).to_string();
    });
    let (with, _) = late(&servers).await;
    let outcome = resolved(&servers, &with, &old).await;
    assert_eq!(outcome, Err(Doubt::NotFlushed));
}

#[tokio::test]
async fn a_token_proves_what_the_server_has_forgotten() {
    let (servers, pool) = start_with_tokens(lazy()).await;
    let evidence = unanswered(&servers, &pool, INSERT, Moment::SilentAfter).await;
    // The status of an id is kept until nothing in any database needs it any more, and a whole
    // file of a million of them can go.
    let client = servers.connect(0).await.unwrap();
    client
        .batch_execute(
            "CREATE PROCEDURE spend(ids int) LANGUAGE plpgsql AS $$ BEGIN \
                 FOR i IN 1..ids LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; \
             END $$",
        )
        .await
        .unwrap();
    client
        .batch_execute("SET synchronous_commit = off")
        .await
        .unwrap();
    client.batch_execute("CALL spend(1100000)").await.unwrap();
    let sql = "ALTER DATABASE template0 ALLOW_CONNECTIONS true";
    client.batch_execute(sql).await.unwrap();
    let url = servers.host_url(0).unwrap();
    soon("the server to forget", async {
        loop {
            for database in ["postgres", "template1", "template0"] {
                let mut config: tokio_postgres::Config = url.parse().unwrap();
                config.dbname(database);
                let (client, connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
                let connection = tokio::spawn(connection);
                client.batch_execute("VACUUM (FREEZE)").await.unwrap();
                drop(client);
                connection.await.unwrap().unwrap();
            }
            let sql = "SELECT pg_xact_status($1::text::xid8)";
            let id = evidence.transaction.to_string();
            let status = client.query_one(sql, &[&id]).await.unwrap();
            if status.get::<_, Option<&str>>(0).is_none() {
                break;
            }
        }
    })
    .await;
    let (with, without) = late(&servers).await;
    let outcome = resolved(&servers, &without, &evidence).await;
    assert_eq!(outcome, Err(Doubt::Forgotten));
    let outcome = resolved(&servers, &with, &evidence).await;
    assert_eq!(outcome, Ok(Outcome::Committed));
}

#[tokio::test]
async fn old_ones_are_cleaned_in_batches() {
    let (servers, pool) = start_with_tokens(lazy()).await;
    insert(&pool).await;
    let client = servers.connect(0).await.unwrap();
    let sql = format!(
        "INSERT INTO {TABLE} SELECT gen_random_uuid(), now() - interval '49 hours' \
         FROM generate_series(1, 10)"
    );
    client.batch_execute(&sql).await.unwrap();
    // Not for whoever may only insert.
    let error = pool.clean_tokens(4).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("42501"), "{error}");
    let owner = connect_with(&servers.url(), with_tokens).await.unwrap();
    for expected in [4, 4, 2, 0] {
        assert_eq!(owner.clean_tokens(4).await.unwrap(), expected);
    }
    assert_eq!(tokens(&servers).await, 1);
    // Without a table there is nothing to do.
    let none = Pool::connect(&servers.url()).await.unwrap();
    assert_eq!(none.clean_tokens(4).await.unwrap(), 0);
    none.create_token_table().await.unwrap();
}

#[tokio::test]
async fn the_migration_may_run_again() {
    let (servers, _pool) = start_with_tokens(lazy()).await;
    let migration = TokenTable::new(TABLE).unwrap().migration();
    let client = servers.connect(0).await.unwrap();
    client.batch_execute(&migration).await.unwrap();
    let owner = connect_with(&servers.url(), |config| config.token_table("a.b"))
        .await
        .unwrap();
    client.batch_execute("CREATE SCHEMA a").await.unwrap();
    owner.create_token_table().await.unwrap();
    owner.create_token_table().await.unwrap();
    insert(&owner).await;
    let row = client.query_one("SELECT count(*) FROM a.b", &[]).await;
    assert_eq!(row.unwrap().get::<_, i64>(0), 1);
}

#[tokio::test]
async fn without_the_table_nothing_is_committed() {
    let (servers, pool) = start().await;
    drop(pool);
    let pool = connect_with(&servers.url(), with_tokens).await.unwrap();
    let error = pool
        .run_tx(|tx| async move {
            tx.execute(INSERT, &[]).await?;
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!(error.sqlstate(), Some("42P01"), "{error}");
    assert!(error.to_string().contains(TABLE), "{error}");
    assert!(!error.is_transient());
    assert_eq!(rows(&servers).await, 0);
    tokio::time::timeout(Duration::from_secs(5), pool.create_token_table())
        .await
        .unwrap()
        .unwrap();
    insert(&pool).await;
    assert_eq!(rows(&servers).await, 1);
}
