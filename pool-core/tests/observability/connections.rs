//! Connections that are not let in, not cleaned, not limited, not subscribed, and lost.

use std::time::Duration;

use leadpool::{
    CheckoutOptions, Error, Pool,
    config::{ConfigBuilder, Recycling},
    credentials::{Credentials, from_fn},
};
use leadpool_testkit::Cluster as Servers;

use crate::{
    capture::{Capture, Line},
    support::*,
};

pub(crate) async fn play(seen: &Capture) {
    let servers = Servers::builder()
        .standbys(0)
        .hba("host all app 127.0.0.0/8 scram-sha-256")
        .start()
        .await
        .unwrap();
    refused_credentials(seen, &servers).await;
    not_cleaned(seen, &servers).await;
    not_limited(seen, &servers).await;
    not_subscribed(seen, &servers).await;
    a_lost_listener(seen, &servers).await;
}

async fn connect(
    url: &str,
    name: &str,
    change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> Pool {
    connect_with(url, |config| change(config.pool_name(name).writer_size(1)))
        .await
        .unwrap()
}

/// What one pool has told, of the first server.
fn of_host(seen: &Capture, servers: &Servers, pool: &str, name: &str) -> Vec<Line> {
    let mut told = seen.told(pool, name);
    let addr = servers.addr(0).unwrap();
    told.retain(|line| {
        line.value("server.address") == addr.ip().to_string()
            && line.value("server.port") == addr.port().to_string()
    });
    told
}

fn code(line: &Line) -> &str {
    line.value("db.response.status_code")
}

/// A provider that knows the new password once the old one was refused.
async fn refused_credentials(seen: &Capture, servers: &Servers) {
    let admin = servers.connect(0).await.unwrap();
    let role = "CREATE ROLE app LOGIN PASSWORD 'new'";
    admin.batch_execute(role).await.unwrap();
    let url = servers.url();
    let url = url.replace("postgres://postgres@", "postgres://app@");
    let pool = connect(&url, "refused", |config| {
        config.credentials(from_fn(|request| async move {
            let password = request.rejected.map_or("old", |_| "new");
            Ok(Credentials::password(password))
        }))
    });
    drop(pool.await.get().await.unwrap());
    let told = of_host(seen, servers, "refused", "leadpool.credentials_refused");
    assert!(!told.is_empty());
    assert!(told.iter().all(|line| code(line) == "28P01"), "{told:?}");
}

async fn not_cleaned(seen: &Capture, servers: &Servers) {
    let pool = connect(&servers.url(), "dirty", |config| {
        config.recycling(Recycling::Own("SELECT 1/0".to_owned()))
    })
    .await;
    for _ in 0..2 {
        drop(pool.get().await.unwrap());
    }
    let name = "leadpool.not_cleaned";
    let told = of_host(seen, servers, "dirty", name);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(code(&told[0]), "22012");
    // The other way; those connections go wherever the writer is.
    let outside = pool.deadpool_pool();
    for _ in 0..2 {
        drop(outside.get().await.unwrap());
    }
    assert_eq!(of_host(seen, servers, "dirty", name).len(), 1);
    let told = seen.told("dirty", name);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(code(&told[1]), "22012");
}

async fn not_limited(seen: &Capture, servers: &Servers) {
    let pool = connect(&servers.url(), "limits", |config| config).await;
    let spoilt = pool.get().await.unwrap();
    // It goes back in a transaction that has failed, where nothing can be set.
    assert!(spoilt.batch_execute("BEGIN; SELECT 1/0").await.is_err());
    drop(spoilt);
    let options = CheckoutOptions::new().statement_timeout(Duration::from_secs(7));
    let client = pool.get_with(options).await.unwrap();
    client.batch_execute("ROLLBACK").await.unwrap();
    drop(client);
    drop(pool.get().await.unwrap());
    let name = "leadpool.statement_timeout_refused";
    let told = of_host(seen, servers, "limits", name);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(code(&told[0]), "25P02");
}

async fn not_subscribed(seen: &Capture, servers: &Servers) {
    let pool = connect(&servers.url(), "deaf", |config| {
        config.session_setting("no_such_setting", "1")
    })
    .await;
    let refused = pool.listener().listen("orders").await;
    assert!(matches!(refused, Err(Error::Connect(_))));
    let told = of_host(seen, servers, "deaf", "leadpool.not_subscribed");
    assert_eq!(code(&told[0]), "42704");
    assert_eq!(told[0].value("leadpool.curable"), "false");
}

async fn a_lost_listener(seen: &Capture, servers: &Servers) {
    let pool = connect(&servers.url(), "listener", |config| config).await;
    let mut listener = pool.listener();
    listener.listen("orders").await.unwrap();
    servers.terminate_backends(0).await.unwrap();
    soon("the loss", async {
        while of_host(seen, servers, "listener", "leadpool.listener_lost").is_empty() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
