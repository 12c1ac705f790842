//! Patroni's callbacks, as a route of the application.

use std::fmt;

use percent_encoding::percent_decode_str;
use subtle::ConstantTimeEq as _;

use super::{Answer, Problem};
use crate::{discovery::is_patroni_call, monitor::Cluster};

/// The longest body of a callback. A call takes about 40 bytes.
pub const LONGEST_CALL: usize = 4 << 10;

/// Hears Patroni's callbacks in a route of the application, where
/// `discovery::patroni::PatroniCallback` would listen on a port of its own.
///
/// A call makes the monitor look at its hosts at once. It proves nothing and changes no role; calls
/// in quick succession count as one.
///
/// ```no_run
/// # fn f(pool: leadpool::Pool) -> Result<(), leadpool::web::CallbackError> {
/// use leadpool::web::PatroniCallback;
///
/// let callback = PatroniCallback::new(pool.cluster(), "a long secret")?;
/// let bearer = Some(b"Bearer a long secret".as_slice());
/// assert!(callback.admit("POST", bearer).is_ok());
/// assert_eq!(callback.call("", b"on_role_change primary batman").status(), 204);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PatroniCallback {
    cluster: Cluster,
    authorization: String,
}

/// The secret can't be sent in a header: it is empty, or holds something else than printable ASCII
/// without spaces at its ends.
///
/// ```no_run
/// # fn f(cluster: leadpool::Cluster) {
/// use leadpool::web::{CallbackError, PatroniCallback};
///
/// let refused: Result<PatroniCallback, CallbackError> = PatroniCallback::new(&cluster, "");
/// assert!(refused.is_err());
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallbackError;

impl fmt::Display for CallbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the secret of Patroni's callbacks must be printable ASCII, not empty, and without \
             spaces at its ends",
        )
    }
}

impl std::error::Error for CallbackError {}

impl PatroniCallback {
    /// For the callbacks of this cluster's Patroni, which send the secret as
    /// `Authorization: Bearer <secret>`.
    ///
    /// # Errors
    ///
    /// The secret can't be sent in a header.
    pub fn new(cluster: &Cluster, secret: impl AsRef<str>) -> Result<Self, CallbackError> {
        let secret = secret.as_ref();
        let is_ascii = secret.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if secret.is_empty() || !is_ascii || secret.trim() != secret {
            return Err(CallbackError);
        }
        Ok(Self {
            cluster: cluster.clone(),
            authorization: format!("Bearer {secret}"),
        })
    }

    /// Whether a call may be heard, before its body is read: it has the secret, and is a `POST`.
    ///
    /// # Errors
    ///
    /// The refusal: 401 or 405.
    pub fn admit(&self, method: &str, authorization: Option<&[u8]>) -> Result<(), Answer> {
        let expected = self.authorization.as_bytes();
        let is_known = authorization.is_some_and(|given| given.ct_eq(expected).into());
        if !is_known {
            let refusal = Problem::refused(401, "Send the secret: Authorization: Bearer <secret>");
            return Err(refusal.answer().with("www-authenticate", "Bearer"));
        }
        if method != "POST" {
            return Err(Problem::refused(405, "Send a POST.")
                .answer()
                .with("allow", "POST"));
        }
        Ok(())
    }

    /// Hears a call, by its body or its query string: the three words that Patroni gives its
    /// callbacks. 204, or 400 to anything else.
    #[must_use]
    pub fn call(&self, query: &str, body: &[u8]) -> Answer {
        let query = query.replace('+', " ");
        let query = percent_decode_str(&query).decode_utf8_lossy();
        if is_patroni_call(&String::from_utf8_lossy(body)) || is_patroni_call(&query) {
            self.cluster.probe_now();
            return Answer::empty(204);
        }
        let detail = "Send what Patroni gives its callbacks, action, role and scope: \
                      on_role_change primary batman";
        Problem::refused(400, detail).answer()
    }

    /// The answer to a body of more than [`LONGEST_CALL`] bytes.
    #[must_use]
    pub fn too_long() -> Answer {
        Problem::refused(413, "The body may have 4096 bytes.").answer()
    }

    /// The answer to a body that breaks off, or does not arrive in time.
    #[must_use]
    pub fn broken_off() -> Answer {
        Problem::refused(400, "The body did not arrive as a whole.").answer()
    }
}

impl fmt::Debug for PatroniCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PatroniCallback").finish_non_exhaustive()
    }
}
