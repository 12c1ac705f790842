//! What leadpool's configuration says of logging in, TLS, sessions and limits reaches sqlx.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use leadpool_sqlx::{
    Error, PgPoolOptions, Pool,
    leadpool::{
        self,
        config::{ConfigBuilder, Recycling},
        credentials::{CredentialError, Credentials, Secret, from_fn},
    },
};
use leadpool_testkit::{Cluster as Servers, ServerTls};
use sqlx::Executor as _;

use crate::support::*;

/// Servers that ask `app` for its password, which is `first` to begin with.
async fn start_asking() -> Servers {
    let servers = Servers::builder()
        .standbys(0)
        .hba("host all app 127.0.0.0/8 scram-sha-256")
        .start()
        .await
        .unwrap();
    sql(&servers, "CREATE ROLE app LOGIN PASSWORD 'first'").await;
    servers
}

async fn sql(servers: &Servers, statements: &str) {
    let client = servers.connect(servers.primary()).await.unwrap();
    client.batch_execute(statements).await.unwrap();
}

/// The URL of all servers for a role.
fn url(servers: &Servers, login: &str) -> String {
    let url = servers.url();
    let (_, hosts) = url.split_once('@').unwrap();
    format!("postgres://{login}@{hosts}")
}

async fn show(pool: &Pool, setting: &str) -> String {
    sqlx::query_scalar("SELECT current_setting($1)")
        .bind(setting)
        .fetch_one(pool)
        .await
        .unwrap()
}

/// Keeps what it knows until that is refused, and writes down what was refused.
#[derive(Clone)]
struct Vault {
    current: Arc<Mutex<String>>,
    known: Arc<Mutex<Option<String>>>,
    refused: Arc<Mutex<Vec<Secret>>>,
}

impl Vault {
    fn new(password: &str) -> Self {
        Self {
            current: Arc::new(Mutex::new(password.to_owned())),
            known: Arc::default(),
            refused: Arc::default(),
        }
    }

    fn give(&self, config: ConfigBuilder) -> ConfigBuilder {
        let vault = self.clone();
        config.credentials(from_fn(move |request| {
            let mut known = vault.known.lock().unwrap();
            if let Some(old) = request.rejected.and_then(|old| old.password) {
                *known = None;
                vault.refused.lock().unwrap().push(old);
            }
            let password = known.get_or_insert_with(|| vault.current.lock().unwrap().clone());
            let answer = Credentials::password(password.clone());
            async move { Ok(answer) }
        }))
    }
}

#[tokio::test]
async fn a_provider_is_asked_and_once_more_after_a_refusal() {
    let servers = start_asking().await;
    let vault = Vault::new("first");
    let asked = vault.clone();
    let options = PgPoolOptions::new().configure(move |config| asked.give(config));
    let pool = options.connect(&url(&servers, "app")).await.unwrap();
    let held = pool.acquire().await.unwrap();
    assert!(vault.refused.lock().unwrap().is_empty());

    sql(&servers, "ALTER ROLE app PASSWORD 'second'").await;
    *vault.current.lock().unwrap() = "second".to_owned();
    let other = soon("the other", pool.acquire()).await.unwrap();
    assert!(
        vault
            .refused
            .lock()
            .unwrap()
            .contains(&Secret::new("first"))
    );

    // The real pool opens its connections by itself, with what is known by then.
    let real = soon("the real one", pool.pg_pool().acquire()).await;
    real.unwrap();
    drop((held, other));
}

#[tokio::test]
async fn without_another_password_the_refusal_stands() {
    let servers = start_asking().await;
    let vault = Vault::new("first");
    let asked = vault.clone();
    let options = PgPoolOptions::new().configure(move |config| asked.give(config));
    let pool = options.connect(&url(&servers, "app")).await.unwrap();
    sql(&servers, "ALTER ROLE app PASSWORD 'second'").await;
    let error = soon("the refusal", pool.acquire()).await.unwrap_err();
    let code = error.as_database_error().and_then(|error| error.code());
    assert_eq!(code.as_deref(), Some("28P01"), "{error}");
}

#[tokio::test]
async fn a_provider_that_has_nothing_ends_the_checkout_and_one_that_fails_is_asked_on() {
    let servers = start_asking().await;
    let failing = Arc::new(Mutex::new(None));
    let failure = failing.clone();
    let options = PgPoolOptions::new().configure(move |config| {
        let failing = failing.clone();
        config.credentials(from_fn(move |_| {
            let answer = match *failing.lock().unwrap() {
                None => Ok(Credentials::password("first")),
                Some(true) => Err(CredentialError::permanent("sealed").into()),
                Some(false) => Err(CredentialError::transient("busy").into()),
            };
            async move { answer }
        }))
    });
    let pool = options.connect(&url(&servers, "app")).await.unwrap();
    *failure.lock().unwrap() = Some(true);
    let error = soon("the end", pool.acquire()).await.unwrap_err();
    assert!(error.to_string().contains("sealed"), "{error}");
    *failure.lock().unwrap() = Some(false);
    let mut waiting = std::pin::pin!(pool.acquire());
    let waited = tokio::time::timeout(Duration::from_millis(100), waiting.as_mut()).await;
    assert!(waited.is_err(), "{waited:?}");
    *failure.lock().unwrap() = None;
    drop(soon("the connection", waiting).await.unwrap());
}

fn authority() -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    rcgen::CertifiedIssuer::self_signed(params, key).unwrap()
}

#[tokio::test]
async fn tls_is_as_configured() {
    let (known, unknown) = (authority(), authority());
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let params = rcgen::CertificateParams::new(names).unwrap();
    let leaf = params.signed_by(&key, &known).unwrap();
    let servers = Servers::builder()
        .standbys(0)
        .tls(ServerTls::new(leaf.pem(), key.serialize_pem()))
        .start()
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("known"), known.pem()).unwrap();
    std::fs::write(path("unknown"), unknown.pem()).unwrap();
    let is_encrypted = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";

    for (mode, root, expected) in [
        ("disable", None, Some(false)),
        ("require", None, Some(true)),
        ("verify-full", Some("known"), Some(true)),
        ("require", Some("known"), Some(true)),
        // As in libpq, whom to trust counts here too.
        ("require", Some("unknown"), None),
    ] {
        let root_cert = root.map(path);
        let (given, word) = (root_cert.clone(), mode.parse().unwrap());
        let options = PgPoolOptions::new().configure(move |config| {
            let config = config.ssl_mode(word);
            match given.clone() {
                Some(path) => config.ssl_root_cert(path),
                None => config,
            }
        });
        let pool = options.connect_lazy(&servers.url()).unwrap();
        let timeout = tokio::time::timeout(Duration::from_secs(10), async {
            sqlx::query_scalar::<_, bool>(is_encrypted)
                .fetch_one(&pool)
                .await
        });
        match expected {
            Some(expected) => assert_eq!(timeout.await.unwrap().unwrap(), expected, "{mode}"),
            // The monitor refuses the host too.
            None => assert!(!matches!(timeout.await, Ok(Ok(_))), "{mode} {root:?}"),
        }
    }
}

#[tokio::test]
async fn sqlx_itself_refuses_a_certificate_that_is_not_trusted() {
    let (known, unknown) = (authority(), authority());
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &known).unwrap();
    let servers = Servers::builder()
        .standbys(0)
        .tls(ServerTls::new(leaf.pem(), key.serialize_pem()))
        .start()
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    std::fs::write(&root, known.pem()).unwrap();
    let given = root.clone();
    let options = PgPoolOptions::new().configure(move |config| {
        config
            .ssl_root_cert(given.clone())
            .ssl_mode(leadpool::config::SslMode::VerifyCa)
    });
    let pool = options.connect(&servers.url()).await.unwrap();
    // The monitor goes on with its connection.
    std::fs::write(&root, unknown.pem()).unwrap();
    let error = soon("the refusal", pool.acquire()).await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error:?}");
}

#[tokio::test]
async fn sessions_begin_as_configured() {
    let options = PgPoolOptions::new().configure(|config| {
        config
            .session_setting("app.tenant", "a b\\c")
            .statement_timeout(Some(Duration::from_millis(7_500)))
    });
    let (_servers, pool) = start_as(options).await;
    assert_eq!(show(&pool, "app.tenant").await, "a b\\c");
    assert_eq!(show(&pool, "statement_timeout").await, "7500ms");
    // COMMIT is exempt, and the transaction goes on as ever.
    let done = pool.run_tx(|mut tx| async move {
        sqlx::query("INSERT INTO t (n) VALUES (1)")
            .execute(&mut *tx)
            .await
    });
    done.await.unwrap();
}

#[tokio::test]
async fn a_transaction_has_its_own_statement_timeout() {
    let (_servers, pool) = start_as(PgPoolOptions::new()).await;
    let slow = pool
        .tx()
        .statement_timeout(Duration::from_millis(50))
        .run(|mut tx| async move { sqlx::query("SELECT pg_sleep(10)").execute(&mut *tx).await });
    let error = soon("the timeout", slow).await.unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("57014"), "{error}");
    assert_eq!(show(&pool, "statement_timeout").await, "0");
}

#[tokio::test]
async fn used_connections_are_cleaned() {
    let options = PgPoolOptions::new()
        .max_connections(1)
        .configure(|config| config.recycling(Recycling::Clean));
    let (_servers, pool) = start_as(options).await;
    let mut conn = pool.acquire().await.unwrap();
    conn.execute("SET work_mem = '1MB'; BEGIN").await.unwrap();
    let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
        .fetch_one(&mut *conn)
        .await
        .unwrap();
    drop(conn);
    assert_ne!(show(&pool, "work_mem").await, "1MB");
    let sql = "SELECT pg_backend_pid()";
    let now: i32 = sqlx::query_scalar(sql).fetch_one(&pool).await.unwrap();
    assert_eq!(now, backend);
    assert!(pool.try_acquire().is_none(), "it would not be cleaned");
}

#[tokio::test]
async fn what_sqlx_cannot_keep_to_is_refused() {
    let url = "postgres://app@127.0.0.1:1/shop";
    let connect = |url: &str| PgPoolOptions::new().connect_lazy(url);
    for (more, key) in [
        ("?require_auth=scram-sha-256", "require_auth"),
        (
            "?sslmode=require&channel_binding=require",
            "channel_binding",
        ),
        ("?sslmode=require&sslnegotiation=direct", "sslnegotiation"),
        (
            "?ssl_max_protocol_version=TLSv1.2",
            "ssl_max_protocol_version",
        ),
        ("?options=-d%203", "options"),
    ] {
        let error = connect(&format!("{url}{more}")).unwrap_err();
        assert!(matches!(error, sqlx::Error::Configuration(_)), "{error:?}");
        assert!(error.to_string().contains(key), "{error}");
    }
    let options =
        PgPoolOptions::new().configure(|config| config.on_connect(|_| Box::pin(async { Ok(()) })));
    let error = options.connect_lazy(url).unwrap_err();
    assert!(error.to_string().contains("after_connect"), "{error}");
}

#[tokio::test]
async fn limits_of_both_names_are_the_same() {
    let url = "postgres://app@127.0.0.1:1/shop";
    let second = Duration::from_secs(1);
    let said = PgPoolOptions::new()
        .max_connections(7)
        .min_connections(3)
        .acquire_timeout(second)
        .idle_timeout(second)
        .max_lifetime(None);
    let pool = said.connect_lazy(url).unwrap();
    let config = pool.cluster().config();
    assert_eq!(
        (config.pool().writer_size, config.pool().reader_size),
        (7, 7)
    );
    assert_eq!(config.pool().checkout_timeout, second);
    assert_eq!(config.limits().writer_min_size, 3);
    assert_eq!(config.limits().idle_timeout, Some(second));
    assert_eq!(config.limits().max_lifetime, None);

    let configured = PgPoolOptions::new().configure(move |config| {
        config
            .writer_size(5)
            .reader_size(6)
            .checkout_timeout(second)
            .max_lifetime(Some(second))
    });
    let pool = configured.connect_lazy(url).unwrap();
    assert_eq!(pool.options().get_max_connections(), 6);
    assert_eq!(pool.options().get_acquire_timeout(), second);
    assert_eq!(pool.options().get_max_lifetime(), Some(second));

    // A cluster that is shared has settings of its own; what is said here counts for this pool.
    let cluster = pool.cluster().clone();
    let other = PgPoolOptions::new().max_connections(2);
    let other = other.connect_cluster(&cluster).unwrap();
    assert_eq!(other.options().get_max_connections(), 2);
    assert_eq!(other.options().get_acquire_timeout(), second);
}

#[tokio::test]
async fn a_pause_makes_checkouts_wait_also_those_of_the_real_pool() {
    let (_servers, pool) = start_as(PgPoolOptions::new()).await;
    drop(pool.acquire().await.unwrap());
    drop(pool.pg_pool().acquire().await.unwrap());
    let pause = pool.pause(Duration::from_secs(5)).await;
    assert_eq!(pause.in_use(), 0);
    let mut waiting = std::pin::pin!(pool.acquire());
    let mut real = std::pin::pin!(pool.pg_pool().acquire());
    let briefly = Duration::from_millis(100);
    assert!(
        tokio::time::timeout(briefly, waiting.as_mut())
            .await
            .is_err()
    );
    assert!(tokio::time::timeout(briefly, real.as_mut()).await.is_err());
    pause.resume();
    soon("the checkout", waiting).await.unwrap();
    soon("the real pool's", real).await.unwrap();
}

#[tokio::test]
async fn a_drain_brings_transactions_to_their_end() {
    let (servers, pool) = start_as(PgPoolOptions::new()).await;
    let (begun, begins) = tokio::sync::oneshot::channel();
    let begun = Arc::new(Mutex::new(Some(begun)));
    let running = pool.clone();
    let running = tokio::spawn(async move {
        let begun = &begun;
        let run = running.run_tx(|mut tx| async move {
            if let Some(begun) = begun.lock().unwrap().take() {
                begun.send(()).unwrap();
            }
            sqlx::query("SELECT pg_sleep(0.2)")
                .execute(&mut *tx)
                .await?;
            sqlx::query("INSERT INTO t (n) VALUES (1)")
                .execute(&mut *tx)
                .await
        });
        run.await.map(drop)
    });
    begins.await.unwrap();
    soon("the drain", pool.drain(Duration::from_secs(10))).await;
    running.await.unwrap().unwrap();
    assert_eq!(rows(&servers).await, 1);
    let error = pool.acquire().await.unwrap_err();
    assert!(matches!(error, sqlx::Error::PoolClosed), "{error}");
}

#[tokio::test]
async fn too_many_who_wait_are_told_so() {
    let options = PgPoolOptions::new()
        .max_connections(1)
        .configure(|config| config.max_waiting(Some(0)));
    let (_servers, pool) = start_as(options).await;
    let held = pool.acquire().await.unwrap();
    let error = pool.acquire().await.unwrap_err();
    let inside = Error::inside(&error);
    let is_told = matches!(inside, Some(Error::Pool(leadpool::Error::Overloaded(_))));
    assert!(is_told, "{error:?}");
    drop(held);
}
