//! The spans around what takes time, and what is counted at their end.

use std::time::Instant;

use tracing::{Span, field::Empty};

use super::{
    CheckoutMeters, Meters, TransactionMeters,
    meters::{checkout_outcome, transaction_outcome},
    rows,
};
use crate::{
    consistency::{Served, Standing},
    error::Error,
    outcome::Evidence,
    topology::{HostAddr, Target},
};

/// A checkout that has to wait. Dropped before it has ended, it was cancelled.
pub(crate) struct Waiting<'a> {
    meters: &'a CheckoutMeters,
    target: Target,
    span: Span,
    begun: Instant,
    ended: Option<Instant>,
    outcome: &'static str,
}

impl<'a> Waiting<'a> {
    pub(crate) fn begin(meters: &'a CheckoutMeters, target: Target, begun: Instant) -> Self {
        Self {
            meters,
            target,
            span: tracing::span!(
                target: rows::CHECKOUT.target,
                rows::CHECKOUT.level,
                rows::CHECKOUT.name,
                db.client.connection.pool.name = meters.meters().pool(),
                leadpool.target = target.as_str(),
                leadpool.outcome = Empty,
            ),
            begun,
            ended: None,
            outcome: "cancelled",
        }
    }

    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// It has got its connection, at this moment if the driver has looked at the clock.
    pub(crate) fn served(mut self, at: Option<Instant>) {
        (self.outcome, self.ended) = ("ok", at);
    }

    pub(crate) fn ended<T>(mut self, result: &Result<T, Error>) {
        self.outcome = match result {
            Ok(_) => "ok",
            Err(error) => checkout_outcome(error),
        };
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.span.record("leadpool.outcome", self.outcome);
        let ended = self.ended.unwrap_or_else(Instant::now);
        let took = ended.saturating_duration_since(self.begun);
        self.meters.waited(self.target, self.outcome, took);
    }
}

/// A read with a consistency token that has to look for somebody who has it.
pub(crate) struct Reading<'a> {
    meters: &'a CheckoutMeters,
    span: Span,
    standing: Standing,
    served_by: &'static str,
}

impl<'a> Reading<'a> {
    pub(crate) fn begin(meters: &'a CheckoutMeters) -> Self {
        Self {
            meters,
            span: tracing::span!(
                target: rows::CONSISTENT_READ.target,
                rows::CONSISTENT_READ.level,
                rows::CONSISTENT_READ.name,
                db.client.connection.pool.name = meters.meters().pool(),
                leadpool.standing = Empty,
                leadpool.served_by = Empty,
            ),
            standing: Standing::Unknown,
            served_by: "nobody",
        }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// What became of the token.
    pub(crate) fn judged(&mut self, standing: Standing) {
        self.standing = standing;
    }

    pub(crate) fn served(mut self, served: Served) {
        self.standing = served.standing;
        self.served_by = served.by.as_str();
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.span
            .record("leadpool.standing", self.standing.as_str());
        self.span.record("leadpool.served_by", self.served_by);
        self.meters.read(self.served_by, self.standing);
    }
}

/// A connection that is being opened. Dropped before it has ended, it was cancelled.
pub(crate) struct Connecting<'a> {
    meters: &'a Meters,
    host: &'a HostAddr,
    span: Span,
    begun: Instant,
    outcome: &'static str,
}

impl<'a> Connecting<'a> {
    pub(crate) fn begin(meters: &'a Meters, host: &'a HostAddr) -> Self {
        Self {
            meters,
            host,
            span: tracing::span!(
                target: rows::CONNECT.target,
                rows::CONNECT.level,
                rows::CONNECT.name,
                db.system.name = "postgresql",
                db.client.connection.pool.name = meters.pool(),
                server.address = host.name(),
                server.port = host.port(),
                leadpool.outcome = Empty,
                db.response.status_code = Empty,
            ),
            begun: Instant::now(),
            outcome: "cancelled",
        }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    /// `is_retired`: whether the host was invalidated meanwhile.
    pub(crate) fn ended<T>(mut self, result: &Result<T, tokio_postgres::Error>, is_retired: bool) {
        self.outcome = match result {
            Ok(_) => "ok",
            Err(error) => match error.code() {
                Some(code) => {
                    self.span.record("db.response.status_code", code.code());
                    "refused"
                }
                None if is_retired => "invalidated",
                None => "failed",
            },
        };
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.span.record("leadpool.outcome", self.outcome);
        self.meters
            .connect(self.host, self.outcome, self.begun.elapsed());
    }
}

/// A transaction of `run_tx`. Dropped before it has ended, it was cancelled.
pub(crate) struct Transacting<'a> {
    meters: &'a TransactionMeters,
    span: Span,
    begun: Instant,
    outcome: &'static str,
}

impl<'a> Transacting<'a> {
    pub(crate) fn begin(meters: &'a TransactionMeters, name: Option<&str>, target: Target) -> Self {
        Self {
            meters,
            span: tracing::span!(
                target: rows::TRANSACTION.target,
                rows::TRANSACTION.level,
                rows::TRANSACTION.name,
                db.system.name = "postgresql",
                db.client.connection.pool.name = meters.meters().pool(),
                leadpool.transaction.name = name,
                leadpool.target = target.as_str(),
                leadpool.outcome = Empty,
                db.response.status_code = Empty,
            ),
            begun: Instant::now(),
            outcome: "cancelled",
        }
    }

    pub(crate) fn span(&self) -> Span {
        self.span.clone()
    }

    pub(crate) fn ended<T>(mut self, result: &Result<T, Error>) {
        self.outcome = match result {
            Ok(_) => "committed",
            Err(error) => {
                self.span
                    .record("db.response.status_code", error.sqlstate());
                transaction_outcome(error)
            }
        };
    }
}

impl Drop for Transacting<'_> {
    fn drop(&mut self) {
        self.span.record("leadpool.outcome", self.outcome);
        self.meters.ended(self.outcome, self.begun.elapsed());
    }
}

/// The span of one attempt of a transaction; its host is filled in once it is known.
pub(crate) fn attempt_span(number: u32) -> Span {
    tracing::span!(
        target: rows::ATTEMPT.target,
        rows::ATTEMPT.level,
        rows::ATTEMPT.name,
        leadpool.attempt = number,
        server.address = Empty,
        server.port = Empty,
    )
}

/// The span in which it is found out what became of a COMMIT.
pub(crate) fn resolution_span(meters: &Meters, evidence: &Evidence) -> Span {
    tracing::span!(
        target: rows::RESOLUTION.target,
        rows::RESOLUTION.level,
        rows::RESOLUTION.name,
        db.client.connection.pool.name = meters.pool(),
        server.address = evidence.host.name(),
        server.port = evidence.host.port(),
        leadpool.transaction.id = evidence.transaction,
    )
}

/// What kind of error it is: OpenTelemetry's `error.type`.
pub(crate) fn error_type(error: &Error) -> &'static str {
    match error {
        Error::Config(_) => "config",
        Error::NoHost(_) => "no_host",
        Error::QueueFull(_) => "queue_full",
        Error::Overloaded(_) => "overloaded",
        Error::Paused(_) => "paused",
        Error::Connect(_) => "connect",
        Error::TokenRefused(_) => "token_refused",
        Error::Closed => "closed",
        Error::Postgres(_) => "postgres",
        Error::Invalidated { .. } => "invalidated",
        Error::SessionMoved(_) => "session_moved",
        Error::Unknown(_) => "unknown",
        Error::CommitLost { .. } => "commit_lost",
        Error::NotReplicated { .. } => "not_replicated",
        Error::AnswerLost { .. } => "answer_lost",
        Error::BeginRefused { .. } => "begin_refused",
        Error::IsolationChanged { .. } => "isolation_changed",
        Error::RolledBack => "rolled_back",
        Error::EndedByClosure => "ended_by_closure",
        Error::Escaped => "escaped",
        Error::TxDeadline { .. } => "tx_deadline",
        Error::RetriesExhausted { .. } => "retries_exhausted",
        Error::Driver(_) => "driver",
        Error::User(_) => "user",
    }
}
