//! What the tests share.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use leadpool::{Config, Pool, config::ConfigBuilder};
use leadpool_testkit::Cluster as Servers;

/// Servers that ask `scram` for its password by SCRAM, `hash` by whatever hash of it they have, and
/// `clear` for the password as it is; each begins with the password `first`.
pub(crate) async fn start(standbys: usize) -> Servers {
    let servers = Servers::builder()
        .standbys(standbys)
        .hba("host all scram 127.0.0.0/8 scram-sha-256")
        .hba("host all hash 127.0.0.0/8 md5")
        .hba("host all clear 127.0.0.0/8 password")
        .start()
        .await
        .unwrap();
    sql(
        &servers,
        "CREATE ROLE scram LOGIN PASSWORD 'first'; \
         CREATE ROLE clear LOGIN PASSWORD 'first'; \
         SET password_encryption = 'md5'; \
         CREATE ROLE hash LOGIN PASSWORD 'first'",
    )
    .await;
    servers.wait_replayed().await.unwrap();
    servers
}

/// Runs statements on the primary.
pub(crate) async fn sql(servers: &Servers, statements: &str) {
    let client = servers.connect(servers.primary()).await.unwrap();
    client.batch_execute(statements).await.unwrap();
}

/// The URL of all servers for a role, with or without a password.
pub(crate) fn url(servers: &Servers, login: &str) -> String {
    let url = servers.url();
    let (_, hosts) = url.split_once('@').unwrap();
    format!("postgres://{login}@{hosts}")
}

pub(crate) async fn connect(
    servers: &Servers,
    login: &str,
    change: impl FnOnce(ConfigBuilder) -> ConfigBuilder,
) -> Result<Pool, leadpool::Error> {
    let builder = Config::builder(&url(servers, login)).startup_timeout(Duration::from_secs(2));
    let config = change(builder).build()?;
    let cluster = leadpool::Cluster::connect(config).await?;
    Ok(Pool::new(&cluster))
}

/// Who a connection is.
pub(crate) async fn who(client: &deadpool_postgres::Client) -> String {
    let row = client.query_one("SELECT current_user::text", &[]).await;
    row.unwrap().get(0)
}

/// Every reason in an error, the inner ones too.
pub(crate) fn chain(error: &leadpool::Error) -> String {
    use std::error::Error as _;

    let mut text = format!("{error} {error:?}");
    let mut next = error.source();
    while let Some(error) = next {
        text.push_str(&format!(": {error}"));
        next = error.source();
    }
    text
}

/// Fails a test that hangs, with a name for what hung.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: still waiting after 20 s"),
    }
}

/// A file that goes when it is dropped.
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn new(text: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("leadpool-credentials-{}-{number}", std::process::id());
        let file = Self(env::temp_dir().join(name));
        file.write(text);
        file.allow(0o600);
        file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(&self.0, text).unwrap();
    }

    pub(crate) fn allow(&self, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;

        fs::set_permissions(&self.0, fs::Permissions::from_mode(mode)).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
