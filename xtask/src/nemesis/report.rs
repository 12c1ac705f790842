//! The sum of all seeds.

use std::{collections::BTreeMap, fmt::Write as _};

use leadpool::outcome::{Doubt, Outcome};
use serde::Serialize;

use crate::Result;

/// How many examples of each thing are kept for a person to read.
const EXAMPLES: usize = 5;

/// Commits in doubt, and what `run_tx` found out of them by itself.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Doubtful {
    in_doubt: u64,
    resolved: u64,
}

/// What became of one seed, or of all.
#[derive(Debug, Default, Serialize)]
pub(super) struct Run {
    transactions: u64,
    pub(super) acknowledged: u64,
    pub(super) errors: u64,
    /// The caller was told that it is not known.
    pub(super) unknown: u64,
    resolved_committed: u64,
    resolved_not_committed: u64,
    wrong: u64,
    lost: u64,
    duplicated: u64,
    failovers: u64,
    /// Acknowledged, and left behind by an asynchronous failover.
    pub(super) lost_by_postgres: u64,
    /// Told that a standby may not have it.
    pub(super) not_replicated: u64,
    reads: u64,
    /// Of `unknown`: proved when asked again, after the cluster was whole.
    unknown_resolved_later: u64,
    by_fault: BTreeMap<&'static str, Doubtful>,
    doubts: BTreeMap<String, u64>,
    #[serde(skip)]
    examples: Vec<String>,
    #[serde(skip)]
    error_texts: BTreeMap<String, u64>,
}

impl Run {
    pub(super) fn new(transactions: u64, failovers: u64, reads: u64) -> Self {
        Self {
            transactions,
            failovers,
            reads,
            ..Self::default()
        }
    }

    pub(super) fn wrong(&mut self, text: String) {
        self.wrong += 1;
        self.example("wrong", text);
    }

    pub(super) fn lost(&mut self, text: String) {
        self.lost += 1;
        self.example("lost", text);
    }

    pub(super) fn duplicated(&mut self, text: String) {
        self.duplicated += 1;
        self.example("duplicated", text);
    }

    fn example(&mut self, what: &str, text: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("{what}: {text}"));
        }
    }

    pub(super) fn note_error(&mut self, text: &str) {
        // Without the numbers, which differ each time.
        let text = text.chars().filter(|c| !c.is_ascii_digit()).take(100);
        *self.error_texts.entry(text.collect()).or_default() += 1;
    }

    pub(super) fn note_unknown(&mut self, doubt: Doubt, later: Option<Outcome>) {
        *self.doubts.entry(doubt.to_string()).or_default() += 1;
        self.unknown_resolved_later += u64::from(later.is_some());
    }

    pub(super) fn note_found(
        &mut self,
        fault: &'static str,
        outcome: std::result::Result<Outcome, Doubt>,
    ) {
        let by_fault = self.by_fault.entry(fault).or_default();
        by_fault.in_doubt += 1;
        match outcome {
            Ok(Outcome::Committed) => self.resolved_committed += 1,
            Ok(Outcome::NotCommitted) => self.resolved_not_committed += 1,
            Err(_) => return,
        }
        by_fault.resolved += 1;
    }

    /// For the progress of a run of many.
    pub(super) fn line(&self) -> String {
        format!(
            "{} transactions, {} failovers, {} in doubt, {} unknown, {} errors, {} wrong, \
             {} lost, {} duplicated",
            self.transactions,
            self.failovers,
            self.resolved_committed + self.resolved_not_committed + self.unknown,
            self.unknown,
            self.errors,
            self.wrong,
            self.lost,
            self.duplicated
        )
    }

    /// Wrong, lost, duplicated, lost by PostgreSQL.
    #[cfg(test)]
    pub(super) fn verdict(&self) -> [u64; 4] {
        [
            self.wrong,
            self.lost,
            self.duplicated,
            self.lost_by_postgres,
        ]
    }

    fn is_sound(&self) -> bool {
        self.wrong == 0 && self.lost == 0 && self.duplicated == 0
    }
}

/// All seeds of a call.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    #[serde(flatten)]
    sum: Run,
    seeds: Vec<u64>,
    unsound_seeds: Vec<u64>,
}

impl Report {
    pub(super) fn add(&mut self, seed: u64, run: Run) {
        self.seeds.push(seed);
        if !run.is_sound() {
            self.unsound_seeds.push(seed);
        }
        let sum = &mut self.sum;
        sum.transactions += run.transactions;
        sum.acknowledged += run.acknowledged;
        sum.errors += run.errors;
        sum.unknown += run.unknown;
        sum.resolved_committed += run.resolved_committed;
        sum.resolved_not_committed += run.resolved_not_committed;
        sum.wrong += run.wrong;
        sum.lost += run.lost;
        sum.duplicated += run.duplicated;
        sum.failovers += run.failovers;
        sum.lost_by_postgres += run.lost_by_postgres;
        sum.not_replicated += run.not_replicated;
        sum.reads += run.reads;
        sum.unknown_resolved_later += run.unknown_resolved_later;
        for (fault, doubtful) in run.by_fault {
            let of_fault = sum.by_fault.entry(fault).or_default();
            of_fault.in_doubt += doubtful.in_doubt;
            of_fault.resolved += doubtful.resolved;
        }
        for (doubt, count) in run.doubts {
            *sum.doubts.entry(doubt).or_default() += count;
        }
        for (text, count) in run.error_texts {
            *sum.error_texts.entry(text).or_default() += count;
        }
        let examples = run.examples.into_iter();
        sum.examples
            .extend(examples.map(|text| format!("seed {seed}: {text}")));
    }

    /// It did not come to its end.
    pub(super) fn fail(&mut self, seed: u64) {
        self.unsound_seeds.push(seed);
    }

    /// Whether every promise was kept.
    pub(super) fn is_sound(&self) -> bool {
        self.unsound_seeds.is_empty()
    }

    pub(super) fn unsound_seeds(&self) -> String {
        let seeds: Vec<String> = self.unsound_seeds.iter().map(u64::to_string).collect();
        seeds.join(", ")
    }

    /// For a person.
    pub(super) fn table(&self) -> String {
        let sum = &self.sum;
        let mut text = String::new();
        let mut line = |name: &str, value: u64| {
            let _ = writeln!(text, "{name:>36}  {value}");
        };
        line("seeds", self.seeds.len() as u64);
        line("failovers", sum.failovers);
        line("transactions", sum.transactions);
        line("acknowledged", sum.acknowledged);
        line("errors", sum.errors);
        line("in doubt, found committed", sum.resolved_committed);
        line("in doubt, found not committed", sum.resolved_not_committed);
        line("unknown", sum.unknown);
        line("of these proved later", sum.unknown_resolved_later);
        line("committed, not replicated", sum.not_replicated);
        line("reads", sum.reads);
        line("wrong", sum.wrong);
        line("lost", sum.lost);
        line("lost by an asynchronous failover", sum.lost_by_postgres);
        line("duplicated", sum.duplicated);
        let _ = writeln!(text, "\n{:>36}  in doubt, resolved", "while or after");
        for (fault, doubtful) in &sum.by_fault {
            let Doubtful { in_doubt, resolved } = doubtful;
            let _ = writeln!(text, "{fault:>36}  {in_doubt:5}  {resolved:5}");
        }
        for (doubt, count) in &sum.doubts {
            let _ = writeln!(text, "unknown {count} times: {doubt}");
        }
        for (error, count) in &sum.error_texts {
            let _ = writeln!(text, "error {count} times: {error}");
        }
        for example in &sum.examples {
            let _ = writeln!(text, "{example}");
        }
        text
    }

    /// One line for a program.
    pub(super) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }
}
