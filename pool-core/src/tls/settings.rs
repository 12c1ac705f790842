//! What can be said about TLS, in libpq's words.
//!
//! [PostgreSQL documentation, section 34.19](https://www.postgresql.org/docs/current/libpq-ssl.html).

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// Whether connections are encrypted, and what a server must prove: libpq's `sslmode`.
///
/// What each mode does is in [the manual](crate::manual::tls).
///
/// ```
/// use leadpool::{Config, config::SslMode};
///
/// assert_eq!("verify-full".parse(), Ok(SslMode::VerifyFull));
/// assert!(SslMode::Require < SslMode::VerifyFull);
///
/// let config = Config::from_url("postgres://db1/shop?sslmode=require")?;
/// assert_eq!(config.ssl_mode(), SslMode::Require);
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted only if the server refuses otherwise.
    Allow,
    /// Encrypted if the server can; not encrypted if it can't, or if it does not work out. Protects
    /// from nobody who can change what is sent, but needs no preparation: the default, as libpq's.
    #[default]
    Prefer,
    /// Encrypted. The server proves nothing, unless there is a root certificate: then as
    /// [`VerifyCa`](Self::VerifyCa).
    Require,
    /// Encrypted, and the server's certificate is issued by who is trusted.
    VerifyCa,
    /// Encrypted, and the certificate is for the host that was dialled. The one to use.
    VerifyFull,
}

/// Whose certificates are trusted: libpq's `sslrootcert`.
///
/// ```
/// use leadpool::config::RootCert;
///
/// assert_eq!(RootCert::from("system"), RootCert::System);
/// assert_eq!(RootCert::from("/etc/pki/db.pem"), RootCert::File("/etc/pki/db.pem".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RootCert {
    /// What the operating system trusts. Anybody can have a certificate of a public authority, so
    /// [`SslMode::VerifyFull`] is the default with it, and nothing weaker is taken. Read once, when
    /// the configuration is built.
    System,
    /// The CA certificates in this file (PEM).
    File(PathBuf),
}

/// How TLS begins: libpq's `sslnegotiation`.
///
/// ```
/// use leadpool::config::SslNegotiation;
///
/// assert_eq!("direct".parse(), Ok(SslNegotiation::Direct));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SslNegotiation {
    /// The server is asked first whether it speaks TLS.
    #[default]
    Postgres,
    /// At once, which saves a round trip. Needs PostgreSQL 17, and [`SslMode::Require`] or more.
    Direct,
}

/// Whether a client certificate is presented: libpq's `sslcertmode`.
///
/// ```
/// use leadpool::config::SslCertMode;
///
/// assert_eq!("require".parse(), Ok(SslCertMode::Require));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SslCertMode {
    /// None, even if there is one.
    Disable,
    /// If the server asks for one and there is one.
    #[default]
    Allow,
    /// The server must ask for one.
    Require,
}

/// A version of TLS. There are none older than 1.2: they are broken, and rustls does not have them.
///
/// ```
/// use leadpool::config::TlsVersion;
///
/// assert!(TlsVersion::Tls12 < TlsVersion::Tls13);
/// assert!("TLSv1.1".parse::<TlsVersion>().unwrap_err().to_string().contains("TLSv1.2"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TlsVersion {
    /// 1.2, [RFC 5246](https://www.rfc-editor.org/rfc/rfc5246).
    Tls12,
    /// 1.3, [RFC 8446](https://www.rfc-editor.org/rfc/rfc8446).
    Tls13,
}

/// TLS towards the servers. Paths are of files in PEM; they are read when the configuration is
/// built, and again for new connections once they have changed. Only for sockets of the network.
///
/// Set with the methods of the same names of [`ConfigBuilder`](crate::config::ConfigBuilder), or
/// with libpq's keys: without the underscores, but for those of `ssl_min_protocol_version` and
/// `ssl_max_protocol_version`. All of it is in [the manual](crate::manual::tls).
///
/// ```
/// use leadpool::{Config, config::SslMode};
///
/// let config = Config::builder("postgres://db1/shop").ssl_mode(SslMode::Disable).build()?;
/// assert_eq!(config.tls().ssl_mode, Some(SslMode::Disable));
/// assert!(config.tls().ssl_sni);
/// # Ok::<(), leadpool::config::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsSettings {
    /// Whether connections are encrypted, and what a server must prove. Default: `verify-full` with
    /// [`RootCert::System`], else `prefer`, both as libpq.
    pub ssl_mode: Option<SslMode>,
    /// Whom to trust. Default: `~/.postgresql/root.crt` if it is there when the configuration is
    /// built, as libpq. With one, certificates are checked in every mode; where one is refused,
    /// `allow` and `prefer` go on unencrypted, the others do not.
    pub ssl_root_cert: Option<RootCert>,
    /// The client certificate, with its intermediates. Default: `~/.postgresql/postgresql.crt` if it
    /// is there when the configuration is built, as libpq.
    pub ssl_cert: Option<PathBuf>,
    /// Its key, not encrypted, and nobody else's to read: mode 0600 or less, or 0640 if it belongs
    /// to root. Default: `~/.postgresql/postgresql.key`, as libpq.
    pub ssl_key: Option<PathBuf>,
    /// Revocation lists, looked at when certificates are checked. With any, there must be one of
    /// each issuer, and none may be out of date. Default: `~/.postgresql/root.crl` if it is there
    /// when the configuration is built, as libpq.
    pub ssl_crl: Option<PathBuf>,
    /// A folder of such files. Default: none.
    pub ssl_crl_dir: Option<PathBuf>,
    /// Whether the host name is told before encryption begins (SNI), which proxies that know hosts
    /// by name need. Addresses are never told. Default: true, as libpq.
    pub ssl_sni: bool,
    /// How TLS begins. Default: `postgres`, as libpq: it works with every server.
    pub ssl_negotiation: SslNegotiation,
    /// Whether the client certificate is presented. Default: `allow`, as libpq.
    pub ssl_cert_mode: SslCertMode,
    /// The oldest version to speak. Default: 1.2, as libpq.
    pub ssl_min_protocol_version: TlsVersion,
    /// The newest version to speak. Default: none, as libpq: the newest that both know.
    pub ssl_max_protocol_version: Option<TlsVersion>,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            ssl_mode: None,
            ssl_root_cert: None,
            ssl_cert: None,
            ssl_key: None,
            ssl_crl: None,
            ssl_crl_dir: None,
            ssl_sni: true,
            ssl_negotiation: SslNegotiation::default(),
            ssl_cert_mode: SslCertMode::default(),
            ssl_min_protocol_version: TlsVersion::Tls12,
            ssl_max_protocol_version: None,
        }
    }
}

impl TlsSettings {
    /// The mode that counts.
    pub(crate) fn mode(&self) -> SslMode {
        match (self.ssl_mode, &self.ssl_root_cert) {
            (Some(mode), _) => mode,
            (None, Some(RootCert::System)) => SslMode::VerifyFull,
            (None, _) => SslMode::default(),
        }
    }
}

impl From<&Path> for RootCert {
    fn from(path: &Path) -> Self {
        match path.to_str() {
            Some("system") => Self::System,
            _ => Self::File(path.to_owned()),
        }
    }
}

impl From<PathBuf> for RootCert {
    fn from(path: PathBuf) -> Self {
        Self::from(path.as_path())
    }
}

impl From<&str> for RootCert {
    fn from(path: &str) -> Self {
        Self::from(Path::new(path))
    }
}

impl From<String> for RootCert {
    fn from(path: String) -> Self {
        Self::from(Path::new(&path))
    }
}

/// What was said of TLS is none of its words.
///
/// ```
/// use leadpool::config::SslMode;
///
/// let error = "on".parse::<SslMode>().unwrap_err();
/// assert!(error.to_string().contains("verify-full"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownSslWord {
    expected: String,
}

impl fmt::Display for UnknownSslWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for UnknownSslWord {}

macro_rules! words {
    ($type:ident $(($hint:literal))? : $($variant:ident $word:literal),+) => {
        impl $type {
            /// The word that libpq has for it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = UnknownSslWord;

            fn from_str(word: &str) -> Result<Self, Self::Err> {
                $(if word.eq_ignore_ascii_case($word) {
                    return Ok(Self::$variant);
                })+
                let words = [$($word),+];
                let (last, others) = words.split_last().unwrap_or((&"", &[]));
                let expected = format!("{} or {last}", others.join(", "));
                $(let expected = format!("{expected}: {}", $hint);)?
                Err(UnknownSslWord { expected })
            }
        }
    };
}

words!(SslMode: Disable "disable", Allow "allow", Prefer "prefer", Require "require",
    VerifyCa "verify-ca", VerifyFull "verify-full");
words!(SslNegotiation: Postgres "postgres", Direct "direct");
words!(SslCertMode: Disable "disable", Allow "allow", Require "require");
words!(TlsVersion ("older ones are broken, and not spoken here"):
    Tls12 "TLSv1.2", Tls13 "TLSv1.3");
