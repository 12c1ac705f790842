//! leadpool's own reasons for not opening a connection, within the driver's error: that is the only
//! one that the driver's pool lets through.

use std::error::Error as _;

use tokio_postgres::Error;

use crate::{
    connect::carry,
    credentials::{AuthRefused, CredentialError},
    error::{BoxError, HookFailed},
};

/// Why leadpool refuses by itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    #[error(transparent)]
    Auth(#[from] AuthRefused),
    #[error(transparent)]
    Hook(#[from] HookFailed),
}

impl Refusal {
    /// Whether asking again is in vain.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Credentials(error) => error.is_permanent(),
            Self::Auth(_) => true,
            Self::Hook(failed) => !failed.is_curable,
        }
    }

    /// Wraps it.
    pub(super) async fn into_driver(self) -> Error {
        carry(self).await
    }

    /// Finds it again.
    pub(super) fn of_driver(error: &Error) -> Option<&Self> {
        error.source()?.downcast_ref()
    }

    /// What the application is shown of an error that holds one.
    pub(super) fn unwrap_source(error: Error) -> BoxError {
        match error.into_source().map(|source| source.downcast()) {
            Some(Ok(refusal)) => match *refusal {
                Self::Credentials(error) => error.into(),
                Self::Auth(error) => error.into(),
                Self::Hook(error) => error.into(),
            },
            Some(Err(source)) => source,
            None => "the driver tells no reason".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_drivers_error_brings_it_through() {
        for permanent in [true, false] {
            let told = match permanent {
                true => CredentialError::permanent("gone"),
                false => CredentialError::transient("gone"),
            };
            let error = Refusal::from(told).into_driver().await;
            let refusal = Refusal::of_driver(&error).unwrap();
            assert_eq!(refusal.is_permanent(), permanent);
            let source = Refusal::unwrap_source(error);
            assert!(source.downcast_ref::<CredentialError>().is_some());
            assert_eq!(source.to_string(), "no credentials: gone");
        }
        assert!(Refusal::of_driver(&Error::__private_api_timeout()).is_none());
    }
}
