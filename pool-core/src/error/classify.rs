//! What to do after an error: from SQLSTATE and transaction phase to a disposition.

use super::{DriverError, Error, sqlstate::row};

/// How far a transaction had got when an error hit it.
///
/// ```
/// use leadpool::error::TxPhase;
///
/// assert_ne!(TxPhase::Open, TxPhase::CommitInFlight);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TxPhase {
    /// A connection was being opened: nothing has been sent.
    NotSent,
    /// COMMIT has not been sent: whatever happened, nothing is committed.
    Open,
    /// COMMIT has been sent and not been answered.
    CommitInFlight,
    /// The transaction only reads: there is nothing that could be committed.
    ReadOnly,
}

/// What to do after an error.
///
/// The whole table, by SQLSTATE and phase, is in [the manual](crate::manual::retries).
///
/// ```
/// use leadpool::error::{Disposition, TxPhase};
///
/// assert_eq!(Disposition::of_sqlstate("40001", TxPhase::Open), Disposition::RetryHere);
/// assert_eq!(Disposition::of_sqlstate("23505", TxPhase::Open), Disposition::Fail);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Disposition {
    /// The same transaction would fail again, or must not be repeated.
    Fail,
    /// Another attempt on the same host may succeed: it lost against another transaction.
    RetryHere,
    /// The host may have lost its role or its life: look first, then go where the writer is.
    WaitTopology,
    /// What the server refused, a standby refuses: look whether the host is one now. If so, as
    /// [`WaitTopology`](Self::WaitTopology); if not, as [`Fail`](Self::Fail).
    CheckRole,
    /// Whether it was committed is not known: find out.
    Resolve,
}

impl Disposition {
    /// The disposition of an error that the *server* answered with.
    ///
    /// An answer instead of the COMMIT tag means that nothing was committed: the server reports
    /// no error between the commit record and the tag. That holds for FATAL errors too (0 of
    /// 7,404 observed were committed without the tag). The exceptions are 40003, with which the
    /// server itself says that it does not know, and class 08, which no server but a proxy in
    /// between answers with: that it lost the server is all that it knows.
    ///
    /// A code of no class that PostgreSQL has is an error like any other.
    ///
    /// Codes: [PostgreSQL documentation, appendix A](https://www.postgresql.org/docs/current/errcodes-appendix.html).
    #[must_use]
    pub fn of_sqlstate(code: &str, phase: TxPhase) -> Self {
        let Some((.., [not_sent, open, commit_in_flight, read_only])) = row(code) else {
            return Self::Fail;
        };
        *match phase {
            TxPhase::NotSent => not_sent,
            TxPhase::Open => open,
            TxPhase::CommitInFlight => commit_in_flight,
            TxPhase::ReadOnly => read_only,
        }
    }

    /// The disposition of a connection that ended, went silent, or broke the protocol, without an
    /// answer.
    #[must_use]
    pub fn of_lost_connection(phase: TxPhase) -> Self {
        match phase {
            TxPhase::CommitInFlight => Self::Resolve,
            TxPhase::NotSent | TxPhase::Open | TxPhase::ReadOnly => Self::WaitTopology,
        }
    }

    /// The disposition of a driver error: by the server's answer, or as that of a lost connection
    /// if there is none. What the driver refused by itself (a value that can't be converted, a
    /// number of rows that was not expected) is [`Fail`](Self::Fail); in answer to COMMIT there is
    /// nothing of the kind.
    #[must_use]
    pub fn of_driver(error: &tokio_postgres::Error, phase: TxPhase) -> Self {
        match error.code() {
            Some(code) => Self::of_sqlstate(code.code(), phase),
            None if phase == TxPhase::CommitInFlight || is_connection_loss(error) => {
                Self::of_lost_connection(phase)
            }
            None => Self::Fail,
        }
    }
}

impl Disposition {
    /// The same for the error of another driver.
    #[must_use]
    pub fn of_adapter(error: &DriverError, phase: TxPhase) -> Self {
        match error.sqlstate() {
            Some(code) => Self::of_sqlstate(code, phase),
            None if error.is_answer() => Self::Fail,
            None if phase == TxPhase::CommitInFlight || error.is_connection_loss() => {
                Self::of_lost_connection(phase)
            }
            None => Self::Fail,
        }
    }
}

/// Whether a statement failed because its connection is gone or of no more use.
pub(crate) fn is_lost(error: &Error) -> bool {
    match error {
        Error::Postgres(error) => is_connection_loss(error),
        Error::Driver(error) => error.is_connection_loss(),
        _ => false,
    }
}

/// Whether a driver error means that the connection is gone or of no more use, as opposed to a
/// value that could not be converted or a row count that was not expected.
pub(crate) fn is_connection_loss(error: &tokio_postgres::Error) -> bool {
    use std::error::Error as _;

    error.is_closed()
        || is_protocol_error(error)
        || error
            .source()
            .is_some_and(|source| source.downcast_ref::<std::io::Error>().is_some())
}

/// What came was not understood. The driver keeps the kind of its errors to itself.
fn is_protocol_error(error: &tokio_postgres::Error) -> bool {
    let text = error.to_string();
    text.starts_with("unexpected message") || text.starts_with("error parsing response")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_retried_and_what_is_not() {
        use Disposition::*;
        let cases = [
            ("40001", RetryHere, Fail),
            ("40P01", RetryHere, Fail),
            ("53300", RetryHere, RetryHere),
            ("25006", CheckRole, Fail),
            ("0A000", CheckRole, Fail),
            ("55000", CheckRole, Fail),
            ("57P01", WaitTopology, WaitTopology),
            ("57P02", WaitTopology, WaitTopology),
            ("57P03", WaitTopology, WaitTopology),
            ("57P04", Fail, Fail),
            ("57014", Fail, Fail),
            ("55P03", Fail, Fail),
            ("23505", Fail, Fail),
            ("25P02", Fail, Fail),
            ("42P01", Fail, Fail),
            ("28P01", Fail, Fail),
            ("53100", Fail, Fail),
            ("XX000", Fail, Fail),
            ("?", Fail, Fail),
        ];
        for (code, open, not_sent) in cases {
            let of = |phase| Disposition::of_sqlstate(code, phase);
            assert_eq!(of(TxPhase::Open), open, "{code}");
            assert_eq!(of(TxPhase::NotSent), not_sent, "{code}");
            // The server answered: so nothing was committed, whatever the phase.
            assert_eq!(of(TxPhase::CommitInFlight), open, "{code}");
            // Who only reads has no role to mind.
            let read_only = if open == CheckRole { Fail } else { open };
            assert_eq!(of(TxPhase::ReadOnly), read_only, "{code}");
        }
    }

    #[test]
    fn only_a_commit_in_flight_is_in_doubt() {
        use TxPhase::*;
        // The server does not know, or a proxy has lost it, or the connection is gone.
        for code in ["40003", "08006", "08P01", ""] {
            let of = |phase| match code {
                "" => Disposition::of_lost_connection(phase),
                code => Disposition::of_sqlstate(code, phase),
            };
            for phase in [NotSent, Open, ReadOnly] {
                assert_eq!(of(phase), Disposition::WaitTopology, "{code} {phase:?}");
            }
            assert_eq!(of(CommitInFlight), Disposition::Resolve, "{code}");
        }
    }

    #[tokio::test]
    async fn what_is_no_protocol_is_a_lost_connection() {
        use tokio::io::AsyncWriteExt as _;

        let garbage: [&[u8]; 4] = [
            // An answer to nothing, a length that can't be, another language, and silence.
            b"Z\0\0\0\x05I",
            b"R\0\0\0\x01",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            b"",
        ];
        for bytes in garbage {
            let (near, mut far) = tokio::io::duplex(1_024);
            far.write_all(bytes).await.unwrap();
            far.shutdown().await.unwrap();
            let mut config = tokio_postgres::Config::new();
            config.user("app");
            let connected = config.connect_raw(near, tokio_postgres::NoTls).await;
            let error = connected.err().unwrap();
            assert!(is_connection_loss(&error), "{error:?}");
            let of = |phase| Disposition::of_driver(&error, phase);
            assert_eq!(of(TxPhase::Open), Disposition::WaitTopology);
            assert_eq!(of(TxPhase::CommitInFlight), Disposition::Resolve);
        }
    }
}
