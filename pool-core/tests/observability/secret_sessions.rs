//! The secrets of TLS, of credentials and of sessions, and what goes wrong with each.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, time::Duration};

use leadpool::{
    PoolBuilder,
    config::Recycling,
    credentials::{CredentialProvider, Credentials, PasswordFile, from_fn},
};
use leadpool_testkit::{Cluster as Servers, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

use crate::{
    secrets::{Texts, builder, password_sql},
    support::*,
};

const FIRST: &str = "rosebud-one";
const SECOND: &str = "rosebud-two";
/// As RDS takes them.
const TOKEN: &str = "db1:5432/?Action=connect&DBUser=app&X-Amz-Signature=5eb63bbbe01eeed0";
const SETTING: &str = "magnolia-setting";

/// What must not be in any text; the body of a key joins them when it is made.
pub(crate) const SECRETS: [&str; 3] = ["rosebud", "X-Amz-Signature", "magnolia"];
/// What shows them all, so that it is known to be found.
pub(crate) const LEAK: [&str; 3] = [FIRST, TOKEN, SETTING];

/// What an application sends: errors may quote it, and the driver's log.
pub(crate) const SENT: [&str; 3] = ["tulip-kept", "orchid-recycling", "lily-hook"];

/// Servers with TLS that ask `app` for its password, and the files of a client.
struct Stage {
    servers: Servers,
    folder: TempDir,
    key: String,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Plays it all; returns the body of the client's key.
pub(crate) async fn failures(texts: &mut Texts) -> String {
    let stage = Stage::start().await;
    tls(texts, &stage).await;
    passwords(texts, &stage).await;
    providers(texts, &stage).await;
    preparation(texts, &stage).await;
    recycling(texts, &stage).await;
    kept(texts, &stage).await;
    listener(texts, &stage).await;
    let body = stage.key.lines().nth(1).unwrap();
    body.to_owned()
}

async fn tls(texts: &mut Texts, stage: &Stage) {
    texts.works("TLS", stage.full()).await;
    let foreign = stage.url("root=foreign.crt");
    let foreign = with_file(&foreign, stage);
    texts.fails("a foreign certificate", foreign).await;
    let body = stage.key.lines().nth(1).unwrap();
    for (what, text, mode) in [
        ("a key for all to read", stage.key.clone(), 0o644),
        ("half a key", stage.key.replace("-----END", "END"), 0o600),
        ("a key of nothing", body.to_owned(), 0o600),
        ("a mangled key", stage.key.replace(body, &body[1..]), 0o600),
        ("a mangled line", format!("{body}\n{}", stage.key), 0o600),
    ] {
        stage.put("other.key", &text, mode);
        let url = stage.url("key=other.key");
        let builder = with_file(&url, stage);
        texts.debug(what, &builder);
        match builder.build().await {
            Err(error) => texts.error(what, &error),
            // Text before the key's is allowed.
            Ok(pool) => texts.pool(what, &pool),
        }
    }
}

async fn passwords(texts: &mut Texts, stage: &Stage) {
    let pool = stage.full().build().await.unwrap();
    let held = pool.get().await.unwrap();
    stage.password(SECOND).await;
    let what = "a rotated password";
    texts.failed(what, pool.get().await);
    texts.fails(what, stage.full()).await;
    texts.pool(what, &pool);
    fs::write(stage.path("password"), SECOND).unwrap();
    drop(pool.get().await.unwrap());
    drop(held);
    fs::remove_file(stage.path("password")).unwrap();
    let short = stage.full().configure(|c| c.connect_timeout(SHORT));
    texts.failed("no password file", short.build().await);
    fs::write(stage.path("password"), SECOND).unwrap();
}

async fn providers(texts: &mut Texts, stage: &Stage) {
    let sealed = from_fn(|_| async {
        let _token = TOKEN.to_owned();
        Err("the vault is sealed".into())
    });
    texts.debug("a closure", &sealed);
    fails_with(texts, "a sealed vault", sealed, stage).await;
    let token = from_fn(|request| async move {
        drop(format!("{request:?}"));
        Ok(Credentials::password(TOKEN))
    });
    texts.debug("a closure", &token);
    fails_with(texts, "a refused token", token, stage).await;
    texts.debug("credentials", &Credentials::password(TOKEN));
    #[cfg(feature = "aws-iam")]
    {
        let identity = aws_credential_types::Credentials::new(
            "AKIDEXAMPLE",
            "rosebud-of-aws",
            Some("rosebud-of-sts".into()),
            None,
            "test",
        );
        let iam = leadpool::credentials::AwsIam::new(identity).region("eu-west-1");
        texts.debug("AWS IAM", &iam);
        fails_with(texts, "a refused token of AWS", iam, stage).await;
    }
}

async fn fails_with(
    texts: &mut Texts,
    what: &str,
    provider: impl CredentialProvider,
    stage: &Stage,
) {
    let builder = builder(&stage.url("")).configure(|config| config.credentials(provider));
    texts.fails(what, builder).await;
}

/// Hooks, and settings that the server refuses.
async fn preparation(texts: &mut Texts, stage: &Stage) {
    let what = "a setting";
    let set = |name: &'static str| {
        stage
            .full()
            .configure(move |config| config.session_setting(name, SETTING))
    };
    texts.works(what, set("app.secret")).await;
    let lost = set("app.secret").build().await.unwrap();
    let client = lost.get().await.unwrap();
    let row = client.query_one("SELECT length(current_setting('app.secret'))", &[]);
    assert_eq!(row.await.unwrap().get::<_, i32>(0), 16);
    texts.pool(what, &lost);

    let refused = stage
        .full()
        .configure(|config| config.session_setting("lock_timeout", SENT[0]))
        .build()
        .await
        .unwrap();
    texts.failed("a refused setting", refused.get().await);
    let mut listener = refused.listener();
    texts.failed("a refused listener", listener.listen("orders").await);
    texts.debug("a refused listener", &listener);
    texts.pool("a refused setting", &refused);

    let hooks = stage.full().on_connect(|client| {
        Box::pin(async move {
            let sql = format!("SELECT '{}'::int", SENT[2]);
            Ok(client.batch_execute(&sql).await?)
        })
    });
    texts.debug("a hook", &hooks);
    let pool = hooks.build().await.unwrap();
    texts.failed("a hook", pool.get().await);
    texts.pool("a hook", &pool);
}

async fn recycling(texts: &mut Texts, stage: &Stage) {
    let sql = format!("SELECT '{}'::int", SENT[1]);
    let builder = stage
        .full()
        .configure(|config| config.recycling(Recycling::Own(sql)));
    texts.debug("recycling", &builder);
    let pool = builder.build().await.unwrap();
    // Each is closed instead of handed out again.
    for _ in 0..2 {
        drop(soon("a checkout", pool.get()).await.unwrap());
    }
    texts.pool("recycling", &pool);
}

async fn kept(texts: &mut Texts, stage: &Stage) {
    let pool = stage.full().build().await.unwrap();
    let mut session = pool.session();
    session.set("app.kept", SENT[0]).await.unwrap();
    texts.debug("a kept session", &session);
    texts.failed("a kept session", session.set("work_mem", SENT[0]).await);
    let bad = session.set("no name", SENT[0]).await;
    texts.failed("a kept session", bad);
    session.get().await.unwrap();
    stage.servers.terminate_backends(0).await.unwrap();
    let moved = soon("its end", async {
        loop {
            match session.get().await {
                Ok(client) => drop(client.simple_query("SELECT 1").await),
                Err(error) => break error,
            }
        }
    });
    texts.error("a kept session", &moved.await);
    texts.debug("a kept session", &session);
    texts.pool("a kept session", &pool);
}

async fn listener(texts: &mut Texts, stage: &Stage) {
    let pool = stage.full().build().await.unwrap();
    let mut listener = pool.listener();
    listener.listen("orders").await.unwrap();
    stage.servers.terminate_backends(0).await.unwrap();
    let event = soon("a gap", listener.next()).await.unwrap();
    texts.debug("a listener", &event);
    texts.debug("a listener", &listener);
    pool.close(Duration::ZERO).await;
    texts.failed("a closed listener", listener.listen("more").await);
}

const SHORT: Duration = Duration::from_millis(200);

impl Stage {
    async fn start() -> Self {
        let authority = authority();
        let (certificate, key) = signed(&authority, "127.0.0.1");
        let servers = Servers::builder()
            .standbys(0)
            .tls(ServerTls::new(certificate, key).clients(authority.pem()))
            .conf("password_encryption", "scram-sha-256")
            .hba("host all app all scram-sha-256")
            .start()
            .await
            .unwrap();
        let (certificate, key) = signed(&authority, "app");
        let stage = Self {
            servers,
            folder: TempDir::new().unwrap(),
            key,
        };
        stage.put("root.crt", &authority.pem(), 0o600);
        stage.put("foreign.crt", &self::authority().pem(), 0o600);
        stage.put("client.crt", &certificate, 0o600);
        stage.put("client.key", &stage.key, 0o600);
        stage.put("password", FIRST, 0o600);
        let admin = stage.servers.connect(0).await.unwrap();
        admin.batch_execute("CREATE ROLE app LOGIN").await.unwrap();
        stage.password(FIRST).await;
        stage
    }

    async fn password(&self, password: &str) {
        let admin = self.servers.connect(0).await.unwrap();
        let sql = password_sql("app", password);
        admin.batch_execute(&sql).await.unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).unwrap();
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }

    /// With a client's certificate; `root` and `key` are the names of files.
    fn url(&self, files: &str) -> String {
        let hosts = self.servers.url();
        let (_, hosts) = hosts.split_once('@').unwrap();
        let file = |name: &str, or: &str| {
            let found = files.split('&').find_map(|file| file.strip_prefix(name));
            self.path(found.unwrap_or(or)).display().to_string()
        };
        format!(
            "postgres://app@{hosts}?sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
            file("root=", "root.crt"),
            file("cert=", "client.crt"),
            file("key=", "client.key"),
        )
    }

    /// All as it should be.
    fn full(&self) -> PoolBuilder {
        with_file(&self.url(""), self)
    }
}

fn with_file(url: &str, stage: &Stage) -> PoolBuilder {
    let file = PasswordFile::new(stage.path("password"));
    builder(url).configure(|config| config.credentials(file))
}

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(DnType::CommonName, "authority");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn signed(authority: &Authority, name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}
