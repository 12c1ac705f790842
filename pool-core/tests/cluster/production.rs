//! The configuration of the manual's page on production, as it stands there, on real servers.

use std::{fs, path::Path, time::Duration};

use leadpool::{Cluster, Pool, config::Settings, outcome::TokenTable};
use leadpool_testkit::{Cluster as Servers, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::support::*;

const PAGE: &str = include_str!("../../src/manual/production.md");

/// The page's file.
fn file() -> Settings {
    let (_, after) = PAGE.split_once("```toml\n").unwrap();
    let (file, _) = after.split_once("```").unwrap();
    toml::from_str(file).unwrap()
}

/// Puts the certificate of an authority there, and gives out one for servers of this machine.
fn authority(root: &Path) -> ServerTls {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(root, issuer.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap();
    ServerTls::new(certificate.pem(), key.serialize_pem())
}

#[tokio::test]
async fn the_manuals_configuration_serves_and_survives_a_failover() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("ca.pem");
    let tls = authority(&root);
    let root = ("LEADPOOL__SSLROOTCERT", root.display().to_string());
    let as_it_stands = file().with_vars([root.clone()]).build().unwrap();
    assert_eq!(as_it_stands.hosts().len(), 3);

    // With nothing for the role but by TLS and its password.
    let servers = Servers::builder()
        .tls(tls)
        .hba("hostssl all shop all scram-sha-256")
        .hba("host all shop all reject");
    let servers = servers.start().await.unwrap();
    prepare(&servers).await;
    let owner = servers.connect(servers.primary()).await.unwrap();
    let table = TokenTable::new(&file().token_table.unwrap()).unwrap();
    let migration = format!(
        "CREATE SCHEMA shop; {}; CREATE ROLE shop LOGIN PASSWORD 'secret';
         GRANT USAGE ON SCHEMA shop TO shop; GRANT INSERT, SELECT ON {table} TO shop;
         GRANT INSERT ON t TO shop; GRANT USAGE ON SEQUENCE t_id_seq TO shop",
        table.migration()
    );
    owner.batch_execute(&migration).await.unwrap();
    servers.wait_replayed().await.unwrap();

    // As the page has it: what differs from place to place comes from the environment.
    let url = servers.url().replace("//postgres@", "//shop@");
    let password = ("LEADPOOL__PASSWORD", "secret".to_owned());
    let settings = file().with_vars([("LEADPOOL__URL", url), root, password]);
    let config = settings.build().unwrap();
    assert_eq!(config.pool(), as_it_stands.pool());
    assert_eq!(config.monitor(), as_it_stands.monitor());
    assert_eq!(config.limits(), as_it_stands.limits());
    assert_eq!(config.tx(), as_it_stands.tx());
    assert_eq!(config.session(), as_it_stands.session());
    let pool = Pool::new(&Cluster::connect(config).await.unwrap());

    let client = pool.get().await.unwrap();
    for (setting, value) in [
        ("statement_timeout", "4s"),
        ("lock_timeout", "2s"),
        ("idle_in_transaction_session_timeout", "10s"),
        ("application_name", "shop-api"),
    ] {
        let row = client
            .query_one(&format!("SHOW {setting}"), &[])
            .await
            .unwrap();
        assert_eq!(row.get::<_, &str>(0), value, "{setting}");
    }
    let encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let row = client.query_one(encrypted, &[]).await.unwrap();
    assert!(row.get::<_, bool>(0));
    drop(client);
    seen(&pool, "a standby", |topology| {
        topology.hosts().iter().any(|host| host.is_reader())
    })
    .await;
    let reader = pool.reader().await.unwrap();
    let row = reader
        .query_one("SELECT pg_is_in_recovery()", &[])
        .await
        .unwrap();
    assert!(row.get::<_, bool>(0));
    drop(reader);

    write(&pool, 1).await;
    servers.wait_replayed().await.unwrap();
    servers.kill(servers.primary()).await.unwrap();
    let (failed_over, ()) = tokio::join!(servers.failover(), write(&pool, 2));
    failed_over.unwrap();
    assert_eq!(rows(&servers).await, 2);
    let owner = servers.connect(servers.primary()).await.unwrap();
    let tokens = format!("SELECT count(*) FROM {table}");
    let tokens: i64 = owner.query_one(&tokens, &[]).await.unwrap().get(0);
    assert_eq!(tokens, 2);
    soon("close", pool.close(Duration::from_secs(5))).await;
}

async fn write(pool: &Pool, n: i64) {
    let inserted = pool.run_tx(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES ($1)", &[&n]).await?;
        Ok(())
    });
    inserted.await.unwrap();
}

/// Each limit of the page is shorter than what is around it, as the page demands.
#[test]
fn the_manuals_time_limits_are_in_order() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("ca.pem");
    authority(&root);
    let root = ("LEADPOOL__SSLROOTCERT", root.display().to_string());
    let config = file().with_vars([root]).build().unwrap();
    let (pool, monitor) = (config.pool(), config.monitor());
    assert!(pool.connect_timeout < pool.checkout_timeout);
    assert!(pool.statement_timeout.unwrap() < config.tx().deadline);
    assert!(config.tx().deadline < Duration::from_secs(15));
    assert!(monitor.watchdog_limit.unwrap() < monitor.silence_limit);
}
