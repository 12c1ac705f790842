//! The count at the end.

use std::{collections::HashMap, fmt::Write as _, sync::atomic::Ordering, time::Duration};

use serde::Serialize;

use super::book::{Book, Seen};
use crate::{
    Result,
    servers::{Fault, Observed, Stack},
};

/// What became of one run.
#[derive(Serialize)]
pub(super) struct Report {
    attempted: u64,
    acknowledged: usize,
    errors: u64,
    unknown: u64,
    lost: usize,
    duplicated: usize,
    reads: u64,
    longest_outage_ms: f64,
    faults: Vec<FaultReport>,
    #[serde(skip)]
    name: &'static str,
    #[serde(skip)]
    error_texts: Vec<String>,
}

/// What became of one fault.
#[derive(Serialize)]
pub(super) struct FaultReport {
    fault: Fault,
    /// From the fault to the first write that the new primary accepted from an observer.
    writer_gap_ms: f64,
    /// From there to the first transaction that the pool acknowledged.
    client_added_ms: Option<f64>,
    max_wait_ms: f64,
    /// Acknowledged writes that the old primary took after the new one had taken one.
    stale_acks: usize,
}

fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

impl FaultReport {
    pub(super) fn new(fault: Fault, observed: &Observed, seen: &Seen) -> Self {
        Self {
            fault,
            writer_gap_ms: ms(observed.accepted_at - observed.began),
            client_added_ms: seen.first_ack.map(ms),
            max_wait_ms: ms(seen.longest),
            stale_acks: seen.stale_acks,
        }
    }
}

impl Report {
    /// Compares what was acknowledged with what is in the table.
    pub(super) async fn count(
        name: &'static str,
        servers: &Stack,
        book: &Book,
        faults: Vec<FaultReport>,
        _stopping: Duration,
    ) -> Result<Self> {
        let totals = book.totals();
        let client = servers.connect(servers.primary().await?).await?;
        let mut present: HashMap<(i32, i64), usize> = HashMap::new();
        for row in client
            .query("SELECT worker, entry FROM ledger", &[])
            .await?
        {
            *present.entry((row.get(0), row.get(1))).or_default() += 1;
        }
        let lost = totals
            .acknowledged
            .iter()
            .filter(|key| !present.contains_key(key));
        Ok(Self {
            attempted: book.attempted.load(Ordering::Relaxed),
            acknowledged: totals.acknowledged.len(),
            errors: totals.errors,
            unknown: totals.unknown,
            lost: lost.count(),
            duplicated: present.values().filter(|times| **times > 1).count(),
            reads: book.reads.load(Ordering::Relaxed),
            longest_outage_ms: ms(totals.longest_outage),
            faults,
            name,
            error_texts: totals.error_texts,
        })
    }

    /// The median over the rounds, for each kind of fault.
    fn medians(&self) -> Vec<(Fault, usize, [Option<f64>; 3])> {
        let mut kinds: Vec<Fault> = Vec::new();
        for report in &self.faults {
            if !kinds.contains(&report.fault) {
                kinds.push(report.fault);
            }
        }
        let of = |kind: Fault, value: fn(&FaultReport) -> Option<f64>| {
            let mut values: Vec<f64> = self
                .faults
                .iter()
                .filter(|report| report.fault == kind)
                .filter_map(value)
                .collect();
            values.sort_by(f64::total_cmp);
            let (low, high) = (values.len().checked_sub(1)? / 2, values.len() / 2);
            Some((values[low] + values[high]) / 2.0)
        };
        kinds
            .into_iter()
            .map(|kind| {
                let count = self
                    .faults
                    .iter()
                    .filter(|report| report.fault == kind)
                    .count();
                let values = [
                    of(kind, |report| Some(report.writer_gap_ms)),
                    of(kind, |report| report.client_added_ms),
                    of(kind, |report| Some(report.max_wait_ms)),
                ];
                (kind, count, values)
            })
            .collect()
    }
}

/// A table for a person.
pub(super) fn table(ours: &Report, plain: Option<&Report>) -> String {
    let mut text = String::new();
    let reports: Vec<&Report> = [Some(ours), plain].into_iter().flatten().collect();
    let longest = reports.iter().map(|report| report.name.len()).max();
    let width = longest.map_or(20, |name| (name + 2).max(20));
    // Writing to a String can't fail.
    let mut line = |cells: &[String]| {
        let mut row = String::new();
        for (at, cell) in cells.iter().enumerate() {
            let _ = match at {
                0 => write!(row, "{cell:<28}"),
                _ => write!(row, "{cell:>width$}"),
            };
        }
        text.push_str(row.trim_end());
        text.push('\n');
    };
    let cells = |label: &str, value: &dyn Fn(&Report) -> String| {
        let mut cells = vec![label.to_owned()];
        cells.extend(reports.iter().map(|report| value(report)));
        cells
    };
    line(&[]);
    line(&cells("", &|report| report.name.to_owned()));
    line(&cells("transactions attempted", &|r| {
        r.attempted.to_string()
    }));
    line(&cells("acknowledged", &|r| r.acknowledged.to_string()));
    line(&cells("errors", &|r| r.errors.to_string()));
    line(&cells("unknown", &|r| r.unknown.to_string()));
    line(&cells("lost", &|r| r.lost.to_string()));
    line(&cells("duplicated", &|r| r.duplicated.to_string()));
    line(&cells("written to a stale primary", &|r| {
        let stale = r.faults.iter().map(|fault| fault.stale_acks);
        stale.sum::<usize>().to_string()
    }));
    line(&cells("reads", &|r| r.reads.to_string()));
    line(&cells("longest outage", &|r| {
        format!("{:.1} ms", r.longest_outage_ms)
    }));
    for report in &reports {
        line(&[]);
        let heading = ["writer gap", "client added", "longest wait"].map(str::to_owned);
        let mut row = vec![report.name.to_owned()];
        row.extend(heading);
        line(&row);
        for (kind, count, values) in report.medians() {
            let name = format!("{kind:?}").to_lowercase();
            let label = match count {
                1 => name,
                count => format!("{name}, median of {count}"),
            };
            let mut row = vec![label];
            row.extend(values.map(|value| {
                value.map_or_else(|| "never".to_owned(), |value| format!("{value:.1} ms"))
            }));
            line(&row);
        }
        for text in &report.error_texts {
            line(&[format!("  an error: {text}")]);
        }
    }
    line(&[]);
    line(&[
        "written to a stale primary: acknowledged, and taken by the old one after the new one had taken a write"
            .to_owned(),
    ]);
    line(&["writer gap: from the fault to the first write that the new primary accepted from an observer".to_owned()]);
    line(&[
        "client added: from there to the first transaction that the pool acknowledged".to_owned(),
    ]);
    text
}

/// One line for a program.
pub(super) fn json(ours: &Report, plain: Option<&Report>) -> Result<String> {
    let mut value = serde_json::to_value(ours)?;
    if let (Some(plain), Some(object)) = (plain, value.as_object_mut()) {
        object.insert("compared_with".to_owned(), plain.name.into());
        object.insert("compared".to_owned(), serde_json::to_value(plain)?);
    }
    Ok(value.to_string())
}
