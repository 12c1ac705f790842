//! Each row of both tables is told by somebody, and nothing else is.

use std::collections::BTreeSet;

use leadpool::observe::{METRICS, MetricKind, TRACES, TraceKind};

use crate::{
    capture::{Capture, capture},
    certificates, connections, failovers, sources, traffic,
};

/// Rows that can't be made to happen here, each with the reason.
const EXEMPT: [(&str, &str); 1] = [(
    "leadpool.pass_file_ignored",
    "no process can give itself a `PGPASSFILE` safely: \
     `one_that_nobody_named_is_ignored_with_a_warning` is beside the code",
)];

#[tokio::test]
async fn everything_in_the_tables_is_seen() {
    let seen = capture();
    // Each names its pools.
    tokio::join!(
        traffic::play(seen),
        failovers::play(seen),
        connections::play(seen),
        certificates::play(seen),
        sources::play(seen)
    );
    metrics(seen);
    traces(seen);
}

fn metrics(seen: &Capture) {
    let mut missing: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    for (kind, key) in seen.series() {
        let metric = METRICS
            .iter()
            .find(|metric| metric.name == key.name())
            .unwrap_or_else(|| panic!("{key} is in no table"));
        assert_eq!(kind, metric.kind.to_string(), "{key}");
        let labels: Vec<_> = key.labels().map(|label| label.key()).collect();
        assert_eq!(labels, metric.labels, "{key}");
        let (unit, about) = seen.description(metric.name).unwrap();
        assert_eq!(&*about, metric.about);
        assert_eq!(unit.unwrap().as_str(), metric.unit);
        // A series that stayed at its first 0 is no sign of life; what gauges showed in between
        // was looked at then.
        if metric.kind == MetricKind::Gauge
            || seen.value(metric.name, &[]) != 0.0
            || !seen.samples(metric.name, &[]).is_empty()
        {
            missing.remove(metric.name);
        }
    }
    assert!(missing.is_empty(), "never told: {missing:?}");
}

fn traces(seen: &Capture) {
    let mut missing: BTreeSet<_> = TRACES.iter().map(|row| row.name).collect();
    for (name, reason) in EXEMPT {
        assert!(
            missing.remove(name),
            "there is no {name}, of which {reason}"
        );
    }
    if cfg!(not(feature = "patroni")) {
        missing.remove("leadpool.callback_panicked");
    }
    for line in seen.lines() {
        if !line.target.starts_with("leadpool") || line.target.starts_with("leadpool_testkit") {
            continue;
        }
        let row = TRACES
            .iter()
            .find(|row| row.name == line.name)
            .unwrap_or_else(|| panic!("{line:?} is in no table"));
        assert_eq!(line.is_span, row.kind == TraceKind::Span, "{line:?}");
        assert_eq!(line.target, row.target, "{line:?}");
        assert_eq!(line.level, row.level, "{line:?}");
        assert_eq!(line.fields, row.fields, "{line:?}");
        missing.remove(row.name);
    }
    assert!(missing.is_empty(), "never told: {missing:?}");
}
