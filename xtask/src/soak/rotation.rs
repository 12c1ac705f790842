//! Credentials that change while connections come and go: the role's password, and the servers'
//! certificates.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use leadpool::{
    Config,
    credentials::{CredentialProvider, CredentialRequest, PasswordFile, Providing},
};
use leadpool_testkit::{Cluster as Servers, ClusterBuilder, ServerTls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::time::sleep;

use crate::Result;

const ROLE: &str = "soak";
/// So many connections are opened between two passwords.
const EACH: u64 = 4;
/// A password with which none are opened has been lost in a failover: after so long comes the next.
const PATIENCE: Duration = Duration::from_millis(300);
const TICK: Duration = Duration::from_millis(1);

/// Where the secrets lie, and how often they have changed.
pub(super) struct Rotation {
    folder: TempDir,
    authority: Authority,
    asked: Asked,
    passwords: AtomicU64,
    certificates: AtomicU64,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

impl Rotation {
    pub(super) fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let asked = Asked {
            file: PasswordFile::new(folder.path().join("password")),
            counts: Arc::default(),
        };
        Ok(Self {
            folder,
            asked,
            authority: authority()?,
            passwords: AtomicU64::new(0),
            certificates: AtomicU64::new(0),
        })
    }

    /// The servers ask for the role's password, with TLS and without.
    pub(super) async fn start(&self, servers: ClusterBuilder) -> Result<Servers> {
        let servers = servers
            .tls(certificate(&self.authority)?)
            .conf("password_encryption", "scram-sha-256")
            .hba(&format!("host all {ROLE} all scram-sha-256"))
            .start()
            .await?;
        self.put("root.crt", &self.authority.pem())?;
        let admin = servers.connect(servers.primary()).await?;
        let sql = format!("CREATE ROLE {ROLE} LOGIN SUPERUSER");
        admin.batch_execute(&sql).await?;
        self.settle(&servers).await?;
        Ok(servers)
    }

    /// How the pool of a round logs in: with TLS, or without.
    pub(super) fn config(&self, servers: &Servers, round: u64) -> Result<Config> {
        let url = servers.url();
        let hosts = url.split_once('@').map_or(url.as_str(), |(_, hosts)| hosts);
        let tls = match round / 2 % 2 {
            0 => format!(
                "sslmode=verify-full&sslrootcert={}",
                self.path("root.crt").display()
            ),
            _ => "sslmode=disable".to_owned(),
        };
        let config = Config::builder(&format!("postgres://{ROLE}@{hosts}?{tls}"))
            .credentials(self.asked.clone())
            .pool_name(format!("soak {}", round % 2))
            .writer_size(8);
        Ok(config.build()?)
    }

    /// Gives the role one password after the other while connections are opened, until `done`.
    /// While the primary moves there is nobody to tell.
    pub(super) async fn passwords(&self, servers: &Servers, opened: &AtomicU64, done: &AtomicBool) {
        while !done.load(Ordering::Relaxed) {
            if let Ok(admin) = servers.connect(servers.primary()).await {
                while !done.load(Ordering::Relaxed) && self.password(&admin).await.is_ok() {
                    let next = opened.load(Ordering::Relaxed) + EACH;
                    let until = Instant::now() + PATIENCE;
                    while opened.load(Ordering::Relaxed) < next
                        && Instant::now() < until
                        && !done.load(Ordering::Relaxed)
                    {
                        sleep(TICK).await;
                    }
                }
            }
            sleep(TICK).await;
        }
    }

    /// A password that all hosts know.
    pub(super) async fn settle(&self, servers: &Servers) -> Result<()> {
        let admin = servers.connect(servers.primary()).await?;
        self.password(&admin).await?;
        servers.wait_replayed().await?;
        Ok(())
    }

    /// The server first: who has read the file before is refused, and reads it once more.
    async fn password(&self, admin: &tokio_postgres::Client) -> Result<()> {
        let number = self.passwords.load(Ordering::Relaxed);
        let password = format!("rotated-{number}");
        let sql = format!("ALTER ROLE {ROLE} PASSWORD '{password}'");
        admin.batch_execute(&sql).await?;
        self.put("password", &password)?;
        self.passwords.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Another authority, with the one before for as long as its certificates are in use.
    pub(super) async fn certificates(&mut self, servers: &Servers) -> Result<()> {
        let next = authority()?;
        self.put(
            "root.crt",
            &format!("{}{}", self.authority.pem(), next.pem()),
        )?;
        for host in 0..servers.hosts() {
            servers.set_tls(host, &certificate(&next)?).await?;
            self.certificates.fetch_add(1, Ordering::Relaxed);
        }
        self.authority = next;
        Ok(())
    }

    /// Fails if it was in vain: nobody has been caught with an old password.
    pub(super) fn judge(&self) -> Result<()> {
        match self.asked.counts.anew.load(Ordering::Relaxed) {
            0 => Err("no second question was answered with a new password".into()),
            _ => Ok(()),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Nobody reads half of it.
    fn put(&self, name: &str, text: &str) -> Result<()> {
        let new = self.path(&format!(".{name}"));
        fs::write(&new, text)?;
        fs::rename(new, self.path(name))?;
        Ok(())
    }
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.asked.counts;
        write!(
            f,
            "{} passwords, {} certificates; {} questions, {} again after 28P01, {} of them with a new answer",
            self.passwords.load(Ordering::Relaxed),
            self.certificates.load(Ordering::Relaxed),
            counts.all.load(Ordering::Relaxed),
            counts.again.load(Ordering::Relaxed),
            counts.anew.load(Ordering::Relaxed),
        )
    }
}

/// The file, and how often it was asked for.
#[derive(Clone, Debug)]
struct Asked {
    file: PasswordFile,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: AtomicU64,
    /// Because the host has refused the answer before.
    again: AtomicU64,
    /// Those of them that led to another answer.
    anew: AtomicU64,
}

impl CredentialProvider for Asked {
    fn name(&self) -> &str {
        self.file.name()
    }

    fn provide<'a>(&'a self, request: &'a CredentialRequest) -> Providing<'a> {
        self.counts.all.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            let answer = self.file.provide(request).await?;
            if let Some(rejected) = &request.rejected {
                self.counts.again.fetch_add(1, Ordering::Relaxed);
                if *rejected != answer {
                    self.counts.anew.fetch_add(1, Ordering::Relaxed);
                }
            }
            Ok(answer)
        })
    }
}

fn authority() -> Result<Authority> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// For every host.
fn certificate(authority: &Authority) -> Result<ServerTls> {
    let key = KeyPair::generate()?;
    let params = CertificateParams::new(["127.0.0.1".to_owned()])?;
    let certificate = params.signed_by(&key, authority)?;
    Ok(ServerTls::new(certificate.pem(), key.serialize_pem()))
}
