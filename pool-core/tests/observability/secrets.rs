//! Secrets show nowhere, whatever goes wrong.
//!
//! To guard another secret, add it to [`SECRETS`] and use it in one of the paths below, or in one
//! more of them. Those of TLS, credentials and sessions are in `secret_sessions`.

use std::{
    error::Error as StdError,
    fmt::Debug,
    fmt::Write as _,
    panic,
    sync::{Mutex, OnceLock},
    time::Duration,
};

use leadpool::{Config, Error, Pool, PoolBuilder, Target};
use leadpool_testkit::{Cluster as Servers, Moment, Trigger};

use crate::{capture::capture, secret_sessions, support::*};

const PASSWORD: &str = "hunter2-Grüße";
/// As it stands in a URL.
const ESCAPED: &str = "hunter2-Gr%C3%BC%C3%9Fe";
const WRONG: &str = "hunter3-wrong";

/// What must not be in any text; a part that tells enough will do.
const SECRETS: [&str; 3] = ["hunter2", "hunter3", "Gr%C3%BC"];

/// What an application sends: the errors that it gets may quote it, what others read may not.
const VALUE: &str = "customer-4711";

/// All texts that were looked at, with where they come from.
#[derive(Default)]
pub(crate) struct Texts {
    shown: Vec<(String, String)>,
    /// What may quote what was sent: errors, and the driver's log.
    quoting: Vec<(String, String)>,
}

impl Texts {
    fn add(&mut self, what: &str, text: String) {
        self.shown.push((what.to_owned(), text));
    }

    pub(crate) fn debug(&mut self, what: &str, shown: &impl Debug) {
        self.add(what, format!("{shown:?} {shown:#?}"));
    }

    /// An error with all that is behind it.
    pub(crate) fn error(&mut self, what: &str, error: &(dyn StdError + 'static)) {
        let mut text = format!("{error:?} {error:#?}");
        let mut next = Some(error);
        while let Some(error) = next {
            write!(text, " {error} {error:?}").unwrap();
            next = error.source();
        }
        self.quoting.push((what.to_owned(), text));
    }

    pub(crate) fn failed<T>(&mut self, what: &str, result: Result<T, impl StdError + 'static>) {
        match result {
            Ok(_) => panic!("{what}: was to fail"),
            Err(error) => self.error(what, &error),
        }
    }

    /// A pool, with everything that hangs on it.
    pub(crate) fn pool(&mut self, what: &str, pool: &Pool) {
        self.debug(what, pool);
        self.debug(what, pool.cluster());
        self.debug(what, pool.cluster().config());
        self.debug(what, &pool.cluster().topology());
        self.debug(what, &pool.cluster().events());
        self.debug(what, &pool.tx());
        self.debug(what, &pool.status());
        self.debug(what, &pool.deadpool_pool());
        self.add(what, serde_json::to_string(&pool.status()).unwrap());
        let topology = serde_json::to_string(&*pool.cluster().topology());
        self.add(what, topology.unwrap());
    }

    /// What is built, and a connection of it.
    pub(crate) async fn works(&mut self, what: &str, builder: PoolBuilder) {
        self.debug(what, &builder);
        let pool = builder.build().await.unwrap();
        drop(pool.get().await.unwrap());
        self.pool(what, &pool);
    }

    /// What is built is in vain, at once and with the first connection.
    pub(crate) async fn fails(&mut self, what: &str, builder: PoolBuilder) {
        let lazy = builder.configure(|config| config.lazy(true));
        self.debug(what, &lazy);
        let pool = lazy.build().await.unwrap();
        let short = Duration::from_millis(500);
        self.failed(what, pool.timeout_get(Target::Any, short).await);
        self.pool(what, &pool);
    }

    fn found(&self, secret: &str) -> Vec<&(String, String)> {
        let all = self.shown.iter().chain(&self.quoting);
        all.filter(|(_, text)| text.contains(secret)).collect()
    }
}

/// The messages of all panics.
fn panics() -> &'static Mutex<Vec<String>> {
    static PANICS: OnceLock<Mutex<Vec<String>>> = OnceLock::new();
    PANICS.get_or_init(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            panics().lock().unwrap().push(info.to_string());
            before(info);
        }));
        Mutex::default()
    })
}

#[tokio::test]
async fn no_secret_shows_after_any_failure() {
    let seen = capture();
    let panics = panics();
    let mut texts = Texts::default();
    connection_strings(&mut texts);
    let servers = Servers::builder().proxies(true).start().await.unwrap();
    prepare(&servers).await;
    protect(&servers).await;
    let hosts = servers.proxied_url();
    let url = hosts.replace(
        "postgres://postgres@",
        &format!("postgres://app:{ESCAPED}@"),
    );
    let wrong = hosts.replace("postgres://postgres@", &format!("postgres://app:{WRONG}@"));
    assert_ne!(hosts, url);
    refused_logins(&mut texts, &url, &wrong).await;
    let pool = builder(&url).build().await.unwrap();
    drop(pool.get().await.unwrap());
    texts.pool("a pool that works", &pool);
    failed_statements(&mut texts, &servers, &pool).await;
    a_panic(&pool).await;
    unreachable_hosts(&mut texts, &servers, &url).await;
    a_failover(&mut texts, &servers, &pool).await;
    pool.close(Duration::from_millis(100)).await;
    texts.failed("a closed pool", pool.get().await);
    texts.pool("a closed pool", &pool);
    let key = secret_sessions::failures(&mut texts).await;
    let mut secrets = [&SECRETS[..], &secret_sessions::SECRETS].concat();
    secrets.push(&key);
    let mut sent = secret_sessions::SENT.to_vec();
    sent.push(VALUE);

    texts.add("panics", panics.lock().unwrap().join("\n"));
    let mut logged = 0;
    for line in seen.lines() {
        if line.value("log.target").starts_with("tokio_postgres") {
            // As the manual says: whoever has the driver log has it log what was sent.
            logged += usize::from(line.value("message").contains(VALUE));
            texts
                .quoting
                .push(("the driver's log".into(), format!("{line:?}")));
        } else {
            texts.debug("spans and events", &line);
        }
        if line.target.starts_with("leadpool::") {
            let text = format!("{line:?}");
            assert!(
                !sent.iter().any(|sent| text.contains(sent)),
                "what was sent is in {text}"
            );
        }
    }
    texts.debug("metrics", &seen.series());
    for secret in &secrets {
        let found = texts.found(secret);
        assert!(found.is_empty(), "{secret} shows in {found:#?}");
    }
    for sent in sent {
        let is_quoted = |(_, text): &&(String, String)| text.contains(sent);
        let found = texts.shown.iter().find(is_quoted);
        assert!(found.is_none(), "{sent} shows in {found:#?}");
        let found = texts.quoting.iter().find(is_quoted);
        assert!(found.is_some(), "{sent} was not sent");
    }
    // It was looked for where it would be found, and what was collected is not empty.
    let leak = secret_sessions::LEAK.join(" ");
    let leak = format!("{PASSWORD} {ESCAPED} {WRONG} {leak} {key}");
    texts.add("a leak", leak);
    assert!(secrets.iter().all(|secret| texts.found(secret).len() == 1));
    assert!(logged > 0, "the driver's log was not looked at");
    for what in ["hunter", "leadpool_connects_total", "on purpose", "28P01"] {
        assert!(!texts.found(what).is_empty(), "{what} was to be seen");
    }
}

pub(crate) fn builder(url: &str) -> PoolBuilder {
    Pool::builder(url).configure(|config| {
        config
            .pool_name("secrets")
            .writer_size(2)
            .startup_timeout(Duration::from_millis(1500))
            .connect_timeout(Duration::from_millis(500))
            .checkout_timeout(Duration::from_secs(5))
    })
}

/// The statement does not hold the password: the driver logs statements.
pub(crate) fn password_sql(role: &str, password: &str) -> String {
    let hex = password.bytes().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").unwrap();
        hex
    });
    format!(
        "DO $$BEGIN EXECUTE format('ALTER ROLE {role} PASSWORD %L', \
         convert_from(decode('{hex}', 'hex'), 'UTF8')); END$$"
    )
}

/// Lets the role `app` in with its password only.
async fn protect(servers: &Servers) {
    let admin = servers.connect(0).await.unwrap();
    let sql = format!(
        "CREATE ROLE app LOGIN;
         {};
         GRANT ALL ON TABLE t TO app; GRANT ALL ON SEQUENCE t_id_seq TO app",
        password_sql("app", PASSWORD)
    );
    admin.batch_execute(&sql).await.unwrap();
    servers.wait_replayed().await.unwrap();
    for host in 0..servers.hosts() {
        let path = servers.data_dir(host).unwrap().join("pg_hba.conf");
        let rules = std::fs::read_to_string(&path).unwrap();
        let rules = format!("host all app all scram-sha-256\n{rules}");
        std::fs::write(&path, rules).unwrap();
        let admin = servers.connect(host).await.unwrap();
        admin
            .batch_execute("SELECT pg_reload_conf()")
            .await
            .unwrap();
    }
}

/// Malformed ones, with the secret in every place.
fn connection_strings(texts: &mut Texts) {
    let good = format!("postgres://app:{ESCAPED}@db1,db2/shop");
    let builder = Config::builder(&good).password(PASSWORD);
    texts.debug("a builder of a configuration", &builder);
    texts.debug("a configuration", &builder.build().unwrap());
    texts.debug("a builder of a pool", &Pool::builder(&good));
    for wrong in [
        format!("postgres://app:{PASSWORD}@db1:0/shop"),
        format!("postgres://app:{PASSWORD}@/shop"),
        format!("postgres://app:{PASSWORD}%@db1/shop"),
        format!("postgres://app:{PASSWORD}@db1/shop?nonsense=1"),
        format!("postgres://db1/shop?passwort={PASSWORD}"),
        format!("postgres://db1/shop?password={PASSWORD}&sslmode=sometimes"),
        format!("postgres://app:p@{PASSWORD}:x?options=1@db1/shop"),
        format!("mysql://app:{PASSWORD}@db1/shop"),
        format!("host=db1 password='{PASSWORD}"),
        format!("host=db1 password={PASSWORD} port=many"),
        format!("host=db1 password={PASSWORD} password={PASSWORD}"),
    ] {
        let what = "a malformed connection string";
        texts.debug(what, &Config::builder(&wrong));
        texts.failed(what, Config::from_url(&wrong));
    }
    let contradiction = Config::builder(&good).writer_size(0).build();
    texts.failed("a setting that can't be", contradiction);
}

async fn refused_logins(texts: &mut Texts, url: &str, wrong: &str) {
    texts.failed("a wrong password", builder(wrong).build().await);
    let missing = url.replace("/postgres", "/no_such_database");
    texts.failed("no such database", builder(&missing).build().await);
    // The same when a checkout is refused, and not the monitor.
    for (what, url) in [("a wrong password", wrong), ("no such database", &missing)] {
        let lazy = builder(url).configure(|config| config.lazy(true));
        texts.debug(what, &lazy);
        let pool = lazy.build().await.unwrap();
        let short = Duration::from_millis(800);
        texts.failed(what, pool.timeout_get(Target::Any, short).await);
        texts.pool(what, &pool);
    }
}

async fn failed_statements(texts: &mut Texts, servers: &Servers, pool: &Pool) {
    let quoted = format!("SELECT '{VALUE}'::int");
    let refused = pool.run_tx(|tx| {
        let quoted = quoted.clone();
        async move { Ok(tx.batch_execute(&quoted).await?) }
    });
    texts.failed("a statement that fails", refused.await);
    let conflict = format!("DO $$BEGIN RAISE '{VALUE}' USING ERRCODE = '40001'; END$$");
    let exhausted = pool.tx().retries(1).run(|tx| {
        let conflict = conflict.clone();
        async move { Ok(tx.batch_execute(&conflict).await?) }
    });
    texts.failed("too many retries", exhausted.await);
    let own = pool.run_tx(|_| async { Err::<(), _>(Error::user("out of stock")) });
    texts.failed("an error of the application", own.await);

    let held = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let short = Duration::from_millis(50);
    texts.failed(
        "a full pool",
        pool.timeout_get(Target::Primary, short).await,
    );
    drop(held);

    let proxy = servers.proxy(0).unwrap();
    proxy.cut_at(Trigger::new("COMMIT", Moment::BeforeAnswer));
    let unknown = pool.tx().evidence(false).run(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    });
    texts.failed("a COMMIT in doubt", unknown.await);

    let client = pool.get().await.unwrap();
    servers.terminate_backends(0).await.unwrap();
    texts.failed("a killed backend", client.query_one("SELECT 1", &[]).await);
}

async fn a_panic(pool: &Pool) {
    let pool = pool.clone();
    let task = tokio::spawn(async move {
        pool.run_tx(|tx| async move {
            let _row = tx.query_one("SELECT 1", &[]).await?;
            panic!("on purpose");
            #[allow(unreachable_code, reason = "it says what the closure would return")]
            Ok(())
        })
        .await
    });
    assert!(task.await.unwrap_err().is_panic());
}

async fn unreachable_hosts(texts: &mut Texts, servers: &Servers, url: &str) {
    let hosts = url.split_once('@').unwrap().1.split('/').next().unwrap();
    for (what, host) in [
        ("a host that has no address", "no-such-host.invalid"),
        ("a host that refuses", "127.0.0.1:1"),
    ] {
        let failed = builder(&url.replace(hosts, host)).build().await;
        texts.failed(what, failed);
    }
    // Frozen from the first byte on; a pool that knew better times.
    let pool = builder(url).build().await.unwrap();
    for host in 0..servers.hosts() {
        servers.proxy(host).unwrap().black_hole();
    }
    texts.failed("frozen hosts", builder(url).build().await);
    let short = Duration::from_millis(700);
    texts.failed(
        "frozen hosts",
        pool.timeout_get(Target::Primary, short).await,
    );
    texts.pool("frozen hosts", &pool);
    for host in 0..servers.hosts() {
        servers.proxy(host).unwrap().pass();
    }
}

async fn a_failover(texts: &mut Texts, servers: &Servers, pool: &Pool) {
    let client = soon("a checkout", pool.get()).await.unwrap();
    let mut events = pool.cluster().events();
    servers.kill(0).await.unwrap();
    texts.failed("a killed host", client.query_one("SELECT 1", &[]).await);
    let short = Duration::from_millis(300);
    texts.failed("no writer", pool.timeout_get(Target::Primary, short).await);
    let native = pool.deadpool_pool();
    // It fails, or waits for a writer, by how the loss was seen.
    if let Ok(got) = tokio::time::timeout(short, native.get()).await {
        texts.failed("a pool of the driver's own type", got);
    }
    servers.failover().await.unwrap();
    loop {
        let event = soon("a writer", events.next()).await.unwrap();
        texts.debug("an event", &event);
        if matches!(&event, leadpool::Event::WriterChanged { to: Some(_), .. }) {
            break;
        }
    }
    drop(soon("a checkout", pool.get()).await.unwrap());
    texts.pool("a failover", pool);
}
