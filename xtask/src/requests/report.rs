//! What came of the requests.

use std::{collections::BTreeSet, fmt::Write as _};

use serde::Serialize;

use super::{
    book::{Answer, Method, Totals, Verdict},
    waits::Quantiles,
};
use crate::{
    Replication, Result,
    servers::{Fault, Observed},
};

/// What became of one application.
pub(super) struct Report {
    pub(super) name: &'static str,
    pub(super) totals: Totals,
    pub(super) verdict: Verdict,
    pub(super) faults: Vec<FaultReport>,
}

/// What became of one fault.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct FaultReport {
    pub(super) fault: Fault,
    /// From the fault to the first write that the new primary accepted from an observer.
    pub(super) writer_gap_ms: f64,
    /// Of the answers that came from then on until the next fault.
    pub(super) longest_wait_ms: f64,
}

impl FaultReport {
    pub(super) fn new(fault: Fault, observed: &Observed, longest: std::time::Duration) -> Self {
        let ms = |duration: std::time::Duration| (duration.as_secs_f64() * 10_000.0).round() / 10.0;
        Self {
            fault,
            writer_gap_ms: ms(observed.accepted_at - observed.began),
            longest_wait_ms: ms(longest),
        }
    }
}

impl Totals {
    fn count(&self, is_counted: impl Fn(Answer) -> bool) -> u64 {
        let counted = self.answers.iter();
        let counted = counted.filter(|((_, answer), _)| is_counted(*answer));
        counted.map(|(_, count)| count).sum()
    }

    /// How many answers were no success, those included that never came.
    pub(super) fn failures(&self) -> u64 {
        self.count(|answer| !answer.is_success())
    }
}

impl Report {
    /// What there is to complain of.
    pub(super) fn complaint(&self, replication: Replication) -> Option<String> {
        let verdict = &self.verdict;
        // Without a standby that has it, PostgreSQL itself may lose what it has acknowledged.
        let lost = match replication {
            Replication::Synchronous => verdict.lost,
            Replication::Asynchronous => 0,
        };
        let complaints = [
            (self.totals.failures(), "answers that are not 2xx"),
            (lost, "acknowledged notes lost"),
            (verdict.doubled, "notes written twice"),
            (verdict.strange, "notes that nobody had asked for"),
            // An application that answers nobody makes no mistakes.
            (u64::from(verdict.acknowledged == 0), "runs without a note"),
        ];
        let complaints = complaints.into_iter().filter(|(count, _)| *count > 0);
        let complaints: Vec<String> = complaints
            .map(|(count, what)| format!("{count} {what}"))
            .collect();
        (!complaints.is_empty()).then(|| format!("{}: {}", self.name, complaints.join(", ")))
    }
}

/// What stands at the head of a line, and in it.
type Line<T, V> = (&'static str, fn(T) -> V);

/// A row of a table.
fn row(text: &mut String, cells: impl IntoIterator<Item = String>) {
    for cell in cells {
        // Writing to a String can't fail.
        let _ = write!(text, "| {cell} ");
    }
    text.push_str("|\n");
}

fn head(text: &mut String, first: &str, others: &[String]) {
    row(
        text,
        std::iter::once(first.to_owned()).chain(others.iter().cloned()),
    );
    let _ = writeln!(text, "|---|{}", "--:|".repeat(others.len()));
}

/// How many answers of each kind there were, and how long they took: a table for a person, with a
/// column for each application.
pub(crate) fn answers(columns: &[(&str, &Totals)]) -> String {
    let mut text = String::new();
    let names: Vec<String> = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    head(&mut text, "answers", &names);
    let mut line = |label: String, value: &dyn Fn(&Totals) -> String| {
        let values = columns.iter().map(|(_, totals)| value(totals));
        row(&mut text, std::iter::once(label).chain(values));
    };
    let kinds = columns.iter().flat_map(|(_, totals)| totals.answers.keys());
    let kinds: BTreeSet<Answer> = kinds.map(|(_, answer)| *answer).collect();
    line("all".to_owned(), &|totals| {
        totals.count(|_| true).to_string()
    });
    for method in Method::ALL {
        for kind in &kinds {
            let count = |totals: &Totals| totals.answers.get(&(method, *kind)).copied();
            if columns.iter().all(|(_, totals)| count(totals).is_none()) {
                continue;
            }
            let label = format!("{} {}", method.name(), kind.name());
            line(label, &|totals| count(totals).unwrap_or(0).to_string());
        }
    }
    line("not 2xx".to_owned(), &|totals| {
        totals.failures().to_string()
    });
    for (of, is_all) in [("all answers", true), ("those of 2xx", false)] {
        let quantiles = |totals: &Totals| match is_all {
            true => totals.all.quantiles(),
            false => totals.successes.quantiles(),
        };
        let values: [Line<Quantiles, f64>; 4] = [
            ("p50", |of| of.p50),
            ("p99", |of| of.p99),
            ("p99.9", |of| of.p999),
            ("longest", |of| of.max),
        ];
        for (name, value) in values {
            let label = format!("wait, {of}, {name}");
            line(label, &|totals| {
                format!("{:.1} ms", value(quantiles(totals)))
            });
        }
    }
    line("due while too many were under way".to_owned(), &|totals| {
        totals.crowded.to_string()
    });
    line("due and never sent".to_owned(), &|totals| {
        totals.unsent.to_string()
    });
    text
}

/// What was said besides, by one application.
pub(crate) fn texts(name: &str, totals: &Totals) -> String {
    let mut text = String::new();
    for (said, count) in &totals.texts {
        let _ = writeln!(text, "{name}, {count} times: {said}");
    }
    text
}

/// All of it, for a person.
pub(super) fn tables(reports: &[Report]) -> String {
    let columns: Vec<_> = reports
        .iter()
        .map(|report| (report.name, &report.totals))
        .collect();
    let names: Vec<String> = reports.iter().map(|r| r.name.to_owned()).collect();
    let mut text = answers(&columns);
    text.push('\n');
    head(&mut text, "notes", &names);
    let lines: [Line<Verdict, u64>; 5] = [
        ("acknowledged", |verdict| verdict.acknowledged),
        ("acknowledged and lost", |verdict| verdict.lost),
        ("written twice", |verdict| verdict.doubled),
        ("written, and not acknowledged", |verdict| {
            verdict.unacknowledged
        }),
        ("that nobody asked for", |verdict| verdict.strange),
    ];
    for (label, value) in lines {
        let values = reports
            .iter()
            .map(|report| value(report.verdict).to_string());
        row(&mut text, std::iter::once(label.to_owned()).chain(values));
    }
    text.push('\n');
    let columns: Vec<String> = names
        .iter()
        .flat_map(|name| [format!("{name}: writer gap"), "longest wait".to_owned()])
        .collect();
    head(&mut text, "fault", &columns);
    let faults = reports.iter().map(|report| report.faults.len());
    for index in 0..faults.max().unwrap_or(0) {
        let mut label = String::new();
        let mut values = Vec::new();
        for report in reports {
            let Some(fault) = report.faults.get(index) else {
                values.extend([String::new(), String::new()]);
                continue;
            };
            label = format!("{} {}", index + 1, fault.fault.name());
            let ms = [fault.writer_gap_ms, fault.longest_wait_ms];
            values.extend(ms.map(|ms| format!("{ms:.1} ms")));
        }
        row(&mut text, std::iter::once(label).chain(values));
    }
    text.push('\n');
    for report in reports {
        text.push_str(&texts(report.name, &report.totals));
    }
    text.push_str(
        "wait: from the moment at which a request was due to the last byte of its answer\n\
         writer gap: from the fault to the first write that the new primary accepted from an \
         observer\n\
         longest wait: of the answers that came from the fault on until the next one\n",
    );
    text
}

/// One line for a program.
pub(super) fn json(reports: &[Report]) -> Result<String> {
    let values = reports.iter().map(|report| {
        let totals = &report.totals;
        let answers = totals.answers.iter().map(|((method, answer), count)| {
            let name = format!("{} {}", method.name(), answer.name());
            (name, (*count).into())
        });
        let answers: serde_json::Map<String, serde_json::Value> = answers.collect();
        serde_json::json!({
            "name": report.name,
            "answers": answers,
            "failures": totals.failures(),
            "wait_ms": totals.all.quantiles(),
            "wait_of_successes_ms": totals.successes.quantiles(),
            "crowded": totals.crowded,
            "unsent": totals.unsent,
            "notes": report.verdict,
            "faults": report.faults,
        })
    });
    Ok(serde_json::to_string(&values.collect::<Vec<_>>())?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::requests::book::Book;

    fn report(statuses: &[u16]) -> Report {
        let book = Book::default();
        for status in statuses {
            let asked = book.ask(Method::Post);
            book.enter(asked, Duration::from_millis(2), Answer::Status(*status));
        }
        let there = (0..3).map(|number| (number, 1));
        Report {
            name: "notes",
            totals: book.totals(),
            verdict: book.compare(there),
            faults: Vec::new(),
        }
    }

    const SYNCHRONOUS: Replication = Replication::Synchronous;

    #[test]
    fn nothing_to_complain_of() {
        assert_eq!(report(&[201; 3]).complaint(SYNCHRONOUS), None);
    }

    #[test]
    fn an_answer_that_is_no_success_is_complained_of() {
        let complaint = report(&[201, 500, 201]).complaint(SYNCHRONOUS).unwrap();
        assert_eq!(complaint, "notes: 1 answers that are not 2xx");
        // Nothing has failed, and nobody was told so.
        assert!(report(&[307, 307, 307]).complaint(SYNCHRONOUS).is_some());
    }

    #[test]
    fn a_lost_note_is_complained_of_unless_postgresql_may_lose_it() {
        let report = report(&[201; 4]);
        let complaint = report.complaint(SYNCHRONOUS).unwrap();
        assert_eq!(complaint, "notes: 1 acknowledged notes lost");
        assert_eq!(report.complaint(Replication::Asynchronous), None);
    }

    #[test]
    fn doubled_and_strange_notes_are_complained_of() {
        let mut report = report(&[201; 3]);
        report.verdict.doubled = 2;
        report.verdict.strange = 1;
        let complaint = report.complaint(Replication::Asynchronous).unwrap();
        let expected = "notes: 2 notes written twice, 1 notes that nobody had asked for";
        assert_eq!(complaint, expected);
    }

    #[test]
    fn silence_of_all_is_complained_of() {
        assert!(report(&[]).complaint(SYNCHRONOUS).is_some());
    }

    #[test]
    fn the_table_has_each_kind_of_answer_of_each_application() {
        let (ours, plain) = (report(&[201; 3]), report(&[201, 500, 500]));
        let table = answers(&[("ours", &ours.totals), ("plain", &plain.totals)]);
        for line in [
            "| answers | ours | plain |",
            "| all | 3 | 3 |",
            "| POST 201 | 3 | 1 |",
            "| POST 500 | 0 | 2 |",
            "| not 2xx | 0 | 2 |",
            "| wait, all answers, p99.9 | 2.0 ms | 2.0 ms |",
        ] {
            assert!(table.lines().any(|found| found == line), "{line}\n{table}");
        }
        assert!(!table.contains("GET"), "{table}");
    }
}
