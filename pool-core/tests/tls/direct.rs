//! TLS without a question before.

use leadpool_testkit::Cluster as Servers;

use crate::support::*;

const DIRECT: &str = "sslmode=require&sslnegotiation=direct";

fn speaks_it(servers: &Servers) -> bool {
    servers.install().major() >= 17
}

#[tokio::test]
async fn direct_negotiation_saves_the_question() {
    let leaf = Authority::new("here").sign(&["127.0.0.1"]);
    let servers = start(Some(leaf.server()), &["host all app all scram-sha-256"], 0).await;
    if !speaks_it(&servers) {
        eprintln!("skipped: PostgreSQL 17 is needed; PG_BIN=/path/to/bin chooses one");
        return;
    }
    let url = url(
        &servers,
        "127.0.0.1",
        &format!("{DIRECT}&channel_binding=require"),
    );
    let pool = connect(&url).await.unwrap();
    let client = pool.get().await.unwrap();
    assert!(is_encrypted(&client).await);
    let token = client.cancel_token();
    token.cancel_query(pool.tls_connector()).await.unwrap();

    // What speaks TLS, and another protocol over it.
    let without = start(None, &[], 0).await;
    let refused = refusal(&crate::support::url(&without, "127.0.0.1", DIRECT)).await;
    assert!(refused.contains("PostgreSQL 17"), "{refused}");
}

#[tokio::test]
async fn older_servers_are_told_of() {
    let leaf = Authority::new("here").sign(&["127.0.0.1"]);
    let servers = start(Some(leaf.server()), &[], 0).await;
    if speaks_it(&servers) {
        eprintln!("skipped: a PostgreSQL older than 17 is needed; PG_BIN=/path/to/bin chooses one");
        return;
    }
    let refused = refusal(&url(&servers, "127.0.0.1", DIRECT)).await;
    assert!(refused.contains("PostgreSQL 17"), "{refused}");
}
