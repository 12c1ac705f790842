//! Errors of leadpool's own in the driver's type, which is the only one that its pools pass on.

use std::future::{Ready, ready};

use tokio::io::Empty;
use tokio_postgres::{
    Config, Error,
    config::{SslMode, SslNegotiation},
    tls::{NoTlsStream, TlsConnect},
};

use crate::error::BoxError;

/// A driver's error with this source. The driver lets nobody make one, so it is made to do it: it
/// opens a connection to nowhere, with an encryption that fails for this cause.
pub(crate) async fn carry(cause: impl Into<BoxError>) -> Error {
    let mut config = Config::new();
    config
        .user("nobody")
        .ssl_mode(SslMode::Require)
        .ssl_negotiation(SslNegotiation::Direct);
    match config
        .connect_raw(tokio::io::empty(), Failing(cause.into()))
        .await
    {
        Err(error) => error,
        // Can't be: there is no value of `NoTlsStream`.
        Ok(_) => Error::__private_api_timeout(),
    }
}

struct Failing(BoxError);

impl TlsConnect<Empty> for Failing {
    type Stream = NoTlsStream;
    type Error = BoxError;
    type Future = Ready<Result<NoTlsStream, BoxError>>;

    fn connect(self, _: Empty) -> Self::Future {
        ready(Err(self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;
    use crate::{error::tls_error, tls::TlsError};

    #[tokio::test]
    async fn what_is_carried_is_the_source() {
        let error = carry(TlsError::NotAsked).await;
        assert_eq!(tls_error(&error), Some(&TlsError::NotAsked));
        assert!(error.source().is_some());
    }
}
