//! What a driver's error is about. By itself it says only in which step something happened.

use std::error::Error as _;

use crate::tls::TlsError;

/// The error in words: the server's, TLS's, or the driver's with what is behind it.
pub(crate) fn in_words(error: &tokio_postgres::Error) -> String {
    if let Some(db) = error.as_db_error() {
        return format!("{} ({})", db.message(), db.code().code());
    }
    if let Some(tls) = tls_error(error) {
        return tls.to_string();
    }
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// What TLS has against the server, if it is that.
pub(crate) fn tls_error(error: &tokio_postgres::Error) -> Option<&TlsError> {
    error.source()?.downcast_ref()
}
