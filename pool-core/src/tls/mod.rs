//! TLS: whom to trust, who we are, which server certificates are refused and why.
//!
//! No connection is opened here; that is the affair of `connect`, and of Patroni's REST API.

mod binding;
mod certificate;
mod error;
mod files;
mod pem;
mod plan;
mod settings;
mod verifier;

pub(crate) use binding::end_point;
pub use error::TlsError;
pub(crate) use files::{FileProblem, Files};
#[cfg(feature = "patroni")]
pub(crate) use pem::{Unusable, certificates, certified, key, provider, system_roots};
pub(crate) use plan::Plan;
pub use settings::{
    RootCert, SslCertMode, SslMode, SslNegotiation, TlsSettings, TlsVersion, UnknownSslWord,
};
