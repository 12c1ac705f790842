//! What the application can watch: events, metrics, spans.
//!
//! Each metric is a row of [`METRICS`], each span and each event of `tracing` a row of [`TRACES`];
//! the [manual](crate::manual::observability) shows both, and a test holds it to them.

mod announcer;
mod events;
mod gauges;
mod meters;
mod metrics;
mod spans;
mod tally;
#[cfg(test)]
mod tests;

pub(crate) use announcer::Announcer;
pub use events::Events;
pub(crate) use gauges::{Gauges, Levels};
pub(crate) use meters::{CheckoutMeters, Meters, RetryReason, TransactionMeters};
pub use metrics::{METRICS, Metric, MetricKind};
pub(crate) use spans::{
    Connecting, Reading, Transacting, Waiting, attempt_span, error_type, resolution_span,
};
pub use tally::{InDoubtCounts, RetryCounts, TransactionCounts};

pub(crate) use crate::traces::rows;
pub use crate::traces::{TRACES, Trace, TraceKind};
