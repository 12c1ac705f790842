//! Why a server and we did not come to terms.

use std::time::SystemTime;

use tokio_rustls::rustls::{self, AlertDescription, CertificateError};
use x509_cert::der::DateTime;

/// Why TLS with a server did not come about, for a reason that waiting does not cure.
///
/// It is the source of the driver's error, which is the source of
/// [`Error::Connect`](crate::Error::Connect). Texts of the server's certificate in it are cut short
/// and hold no control characters: who sent them has proved nothing.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) {
/// use std::error::Error as _;
/// use leadpool::error::TlsError;
///
/// if let Err(error) = pool.get().await {
///     let mut cause = error.source();
///     while let Some(error) = cause {
///         if let Some(TlsError::Expired { since, .. }) = error.downcast_ref() {
///             eprintln!("somebody forgot a certificate: {since:?}");
///         }
///         cause = error.source();
///     }
/// }
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// The certificate is for other hosts (`sslmode=verify-full`).
    #[error(
        "its certificate is for {}, not for {host}: dial it by a name that the certificate has, or \
         have one made for this name",
        list(names)
    )]
    #[non_exhaustive]
    WrongName {
        /// The name that was dialled.
        host: String,
        /// The names that the certificate has.
        names: Vec<String>,
    },
    /// The certificate, or one above it, is out of date.
    #[error(
        "its certificate is out of date since {}: it needs a new one",
        moment(since)
    )]
    #[non_exhaustive]
    Expired {
        /// The end of its time.
        since: SystemTime,
    },
    /// The certificate, or one above it, is not valid yet.
    #[error(
        "its certificate is not valid before {}: compare the clocks of this machine and of who \
         made it",
        moment(from)
    )]
    #[non_exhaustive]
    NotYetValid {
        /// The begin of its time.
        from: SystemTime,
    },
    /// Nobody who is trusted has issued the certificate.
    #[error(
        "its certificate was issued by {issuer}, which is not trusted: if the server is the right \
         one, add its CA to `sslrootcert`"
    )]
    #[non_exhaustive]
    UnknownIssuer {
        /// Who issued it, by its own word.
        issuer: String,
    },
    /// A revocation list names the certificate, or one above it.
    #[error("its certificate was revoked, as `sslcrl` or `sslcrldir` says: it needs a new one")]
    Revoked,
    /// The certificate can't be used for another reason.
    #[error("its certificate can't be used: {problem}")]
    #[non_exhaustive]
    Unusable {
        /// What is wrong with it.
        problem: String,
    },
    /// The server speaks no TLS.
    #[error("it speaks no TLS, which {demand} demands: set `ssl = on` there")]
    #[non_exhaustive]
    NotOffered {
        /// The setting that demands it.
        demand: String,
    },
    /// No certificate was asked for (`sslcertmode=require`).
    #[error(
        "it asks for no client certificate, which `sslcertmode=require` demands: set \
         `ssl_ca_file` there"
    )]
    NotAsked,
    /// It did not take up the protocol's name (ALPN), which proves that a PostgreSQL is meant.
    #[error(
        "it does not confirm ALPN `postgresql`, which `sslnegotiation=direct` demands: that needs \
         PostgreSQL 17"
    )]
    NoAlpn,
    /// The server refused us.
    #[error("it ended the TLS handshake: {alert}{}", hint(alert))]
    #[non_exhaustive]
    Refused {
        /// Its alert, by the name that TLS has for it.
        alert: String,
    },
    /// There is no version or cipher that both know.
    #[error(
        "it and leadpool have no version or cipher of TLS in common ({problem}); compare \
         `ssl_min_protocol_version` and `ssl_max_protocol_version` on both sides"
    )]
    #[non_exhaustive]
    Incompatible {
        /// What is not there.
        problem: String,
    },
    /// TLS was asked for where it is switched off.
    #[error("TLS is switched off here: `sslmode=disable`, or a Unix socket")]
    SwitchedOff,
}

impl TlsError {
    /// As an error of the library, which carries it through a handshake.
    pub(super) fn into_rustls(self) -> rustls::Error {
        let other = rustls::OtherError(std::sync::Arc::new(self));
        rustls::Error::InvalidCertificate(CertificateError::Other(other))
    }

    /// What an error of the library means, unless it is one of the network.
    pub(crate) fn of_rustls(error: &rustls::Error) -> Option<Self> {
        match error {
            rustls::Error::InvalidCertificate(CertificateError::Other(other)) => Some(
                other
                    .0
                    .downcast_ref::<Self>()
                    .cloned()
                    .unwrap_or_else(|| Self::unusable(&other.0)),
            ),
            rustls::Error::InvalidCertificate(problem) => Some(Self::unusable(problem)),
            rustls::Error::AlertReceived(alert) => Some(Self::of_alert(*alert)),
            rustls::Error::PeerIncompatible(problem) => Some(Self::Incompatible {
                problem: shown(&format!("{problem:?}")),
            }),
            _ => None,
        }
    }

    fn of_alert(alert: AlertDescription) -> Self {
        match alert {
            AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => {
                Self::Incompatible {
                    problem: format!("{alert:?}"),
                }
            }
            AlertDescription::NoApplicationProtocol => Self::NoAlpn,
            _ => Self::Refused {
                alert: format!("{alert:?}"),
            },
        }
    }

    pub(super) fn unusable(problem: &dyn std::fmt::Display) -> Self {
        Self::Unusable {
            problem: shown(&problem.to_string()),
        }
    }
}

/// What to do about an alert.
fn hint(alert: &str) -> &'static str {
    match alert {
        "CertificateRequired" => ": give a client certificate, `sslcert` and `sslkey`",
        "UnknownCA"
        | "BadCertificate"
        | "CertificateExpired"
        | "CertificateRevoked"
        | "CertificateUnknown"
        | "UnsupportedCertificate"
        | "DecryptError"
        | "AccessDenied" => ": it does not accept our certificate, `sslcert`",
        "UnrecognisedName" => ": it does not know the host by this name",
        _ => "",
    }
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nobody".to_owned(),
        names => names.join(", "),
    }
}

/// In UTC, to the second.
fn moment(at: &SystemTime) -> String {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok();
    match since.and_then(|since| DateTime::from_unix_duration(since).ok()) {
        Some(at) => at.to_string(),
        None => format!("{at:?}"),
    }
}

/// A text that somebody sent who has proved nothing, fit for an error or a log.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    let plain: String = text
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(LONGEST)
        .collect();
    match text.chars().nth(LONGEST) {
        Some(_) => plain + "...",
        None => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_send_is_made_harmless() {
        assert_eq!(shown("a\nb\u{1b}[1m"), "a?b?[1m");
        assert_eq!(shown(&"x".repeat(500)).len(), 123);
    }

    #[test]
    fn moments_are_told_in_utc() {
        let since = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(86_400);
        let text = TlsError::Expired { since }.to_string();
        assert!(text.contains("1970-01-02T00:00:00Z"), "{text}");
    }
}
