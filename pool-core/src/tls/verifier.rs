//! Judging a server's certificate as libpq does.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime},
    server::{ParsedCertificate, VerifierBuilderError},
};

use super::{TlsError, certificate::Described, pem::provider};

/// Whom a server must be vouched for by.
#[derive(Debug)]
pub(super) struct Trusted {
    issuers: Arc<WebPkiServerVerifier>,
    /// As they were given: a server may present one of them itself.
    certificates: Vec<CertificateDer<'static>>,
}

impl Trusted {
    /// With lists, the status of each certificate but the root must be known from one that is not
    /// out of date: what libpq makes OpenSSL do.
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        certificates: Vec<CertificateDer<'static>>,
        revoked: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, VerifierBuilderError> {
        let issuers = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .with_crls(revoked)
            .enforce_revocation_expiration()
            .build()?;
        Ok(Self {
            issuers,
            certificates,
        })
    }
}

/// Judges server certificates.
#[derive(Debug)]
pub(super) struct Verifier {
    /// `None`: nothing is asked of a server but that it holds the key of its certificate.
    pub(super) trusted: Option<Trusted>,
    /// Whether the certificate must be for the host that was dialled.
    pub(super) names: bool,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn judge(
        &self,
        trusted: &Trusted,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), TlsError> {
        let Some(described) = Described::read(leaf) else {
            return Err(TlsError::unusable(&"it can't be read"));
        };
        if !described.is_current() {
            return Err(TlsError::unusable(
                &"it is of an old version of X.509; make one of version 3, with the host's name as \
                  subjectAltName",
            ));
        }
        // Made for itself and trusted by itself: the way of most who have no CA.
        if described.is_self_issued() && trusted.certificates.iter().any(|known| known == leaf) {
            return self.judge_dates(&described, now).and_then(|()| {
                let parsed = ParsedCertificate::try_from(leaf)
                    .map_err(|error| TlsError::unusable(&error))?;
                match verify_server_name(&parsed, host) {
                    Ok(()) => Ok(()),
                    Err(_) => self.judge_name(&described, host),
                }
            });
        }
        let verified = trusted
            .issuers
            .verify_server_cert(leaf, intermediates, host, &[], now);
        // The name is what is looked at last.
        match verified {
            Ok(_) => Ok(()),
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => self.judge_name(&described, host),
            Err(rustls::Error::InvalidCertificate(problem)) => Err(explain(&problem, &described)),
            Err(error) => Err(TlsError::unusable(&error)),
        }
    }

    /// Of a certificate that has not the host's name where it belongs.
    fn judge_name(&self, described: &Described, host: &ServerName<'_>) -> Result<(), TlsError> {
        if !self.names || described.is_for_by_common_name(host) {
            return Ok(());
        }
        Err(TlsError::WrongName {
            host: host.to_str().into_owned(),
            names: described.names(),
        })
    }

    fn judge_dates(&self, described: &Described, now: UnixTime) -> Result<(), TlsError> {
        let (from, until) = described.validity();
        match now.as_secs() {
            now if now < from => Err(TlsError::NotYetValid { from: at(from) }),
            now if now > until => Err(TlsError::Expired { since: at(until) }),
            _ => Ok(()),
        }
    }
}

fn explain(problem: &CertificateError, described: &Described) -> TlsError {
    match problem {
        CertificateError::ExpiredContext { not_after, .. } => TlsError::Expired {
            since: at(not_after.as_secs()),
        },
        CertificateError::Expired => TlsError::Expired {
            since: at(described.validity().1),
        },
        CertificateError::NotValidYetContext { not_before, .. } => TlsError::NotYetValid {
            from: at(not_before.as_secs()),
        },
        CertificateError::NotValidYet => TlsError::NotYetValid {
            from: at(described.validity().0),
        },
        CertificateError::UnknownIssuer => TlsError::UnknownIssuer {
            issuer: described.issuer(),
        },
        // An authority of that name is trusted, and another key has signed.
        CertificateError::BadSignature => TlsError::UnknownIssuer {
            issuer: format!("another {}", described.issuer()),
        },
        CertificateError::Revoked => TlsError::Revoked,
        CertificateError::UnknownRevocationStatus => TlsError::unusable(
            &"no revocation list of its issuer is in `sslcrl` or `sslcrldir`; each issuer needs one",
        ),
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => TlsError::unusable(
            &"the revocation list of its issuer is out of date: renew `sslcrl` or `sslcrldir`",
        ),
        problem => TlsError::unusable(problem),
    }
}

fn at(seconds: u64) -> SystemTime {
    let since = Duration::from_secs(seconds);
    SystemTime::UNIX_EPOCH
        .checked_add(since)
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(trusted) = &self.trusted {
            self.judge(trusted, leaf, intermediates, host, now)
                .map_err(TlsError::into_rustls)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
