//! Certificates and keys as PEM has them, and what the system trusts.

use std::{error::Error as StdError, sync::Arc};

use tokio_rustls::rustls::{
    RootCertStore,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};

/// What is wrong with a text, without a word of it, and what the library said.
#[derive(Debug)]
pub(crate) struct Unusable {
    pub(crate) problem: String,
    #[cfg_attr(
        not(feature = "patroni"),
        expect(dead_code, reason = "a configuration's errors have no source")
    )]
    pub(crate) source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Unusable {
    fn new(problem: &str) -> Self {
        Self {
            problem: problem.to_owned(),
            source: None,
        }
    }

    fn because(problem: &str, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        let source = source.into();
        Self {
            problem: format!("{problem}: {source}"),
            source: Some(source),
        }
    }
}

/// The cryptography of all TLS here.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// All certificates in a text, at least one.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(&error))?;
    if certificates.is_empty() {
        return Err(Unusable::new(
            "holds no certificate: expected PEM, -----BEGIN CERTIFICATE-----",
        ));
    }
    Ok(certificates)
}

/// All revocation lists in a text, perhaps none.
pub(super) fn revocation_lists(
    pem: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, Unusable> {
    CertificateRevocationListDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| not_pem(&error))
}

/// The library's errors quote lines, and a line may be one of a key that was put in the wrong file.
fn not_pem(error: &pem::Error) -> Unusable {
    Unusable::new(match error {
        pem::Error::MissingSectionEnd { .. } => "is not PEM: it breaks off before an END line",
        pem::Error::IllegalSectionStart { .. } => "is not PEM: a BEGIN line is broken",
        _ => "is not PEM: what stands between BEGIN and END is not Base64",
    })
}

/// The one key in a text.
pub(crate) fn key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, Unusable> {
    let has = |words: &[u8]| pem.windows(words.len()).any(|window| window == words);
    if has(b"BEGIN ENCRYPTED PRIVATE KEY") || has(b"Proc-Type: 4,ENCRYPTED") {
        return Err(Unusable::new(
            "is encrypted, and passphrases are not supported: decrypt it (`openssl pkey`), and \
             let nobody else read the file",
        ));
    }
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| {
        Unusable::new("holds no private key: expected PEM, -----BEGIN PRIVATE KEY-----")
    })
}

/// A certificate with its intermediates, and the key that belongs to it.
pub(crate) fn certified(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<CertifiedKey, Unusable> {
    CertifiedKey::from_der(chain, key, &provider())
        .map_err(|error| Unusable::because("is not usable", error))
}

/// What the system trusts. Reads files, some hundred of them.
///
/// A company's own CA is where the certificates of its servers come from, and it is the system's
/// store that has such a CA: a list of the public ones, compiled in, would not help.
pub(crate) fn system_roots() -> Result<RootCertStore, Unusable> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems keep certificates that no library understands.
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err(Unusable {
            problem: "the system has no CA certificates: give a file".to_owned(),
            source: found.errors.into_iter().next().map(Into::into),
        });
    }
    Ok(roots)
}
