//! What was measured: shown as a table, and kept as JSON lines.

use std::{collections::BTreeMap, env, fs::OpenOptions, io::Write as _};

use serde::{Deserialize, Serialize};

use crate::rivals::Error;

/// Names the file that all lines are appended to.
const FILE: &str = "LEADPOOL_BENCH_RESULTS";

/// One measure of one rival, a value of each round.
///
/// ```
/// let line: leadpool_benches::Line = serde_json::from_str(
///     r#"{"question":"checkout","case":"idle","rival":"leadpool","measure":"time",
///         "unit":"ns","values":[480.0,475.5]}"#,
/// )?;
/// assert_eq!(line.values, [480.0, 475.5]);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Line {
    /// The bench.
    pub question: String,
    /// Under which circumstances.
    pub case: String,
    /// Who.
    pub rival: String,
    /// What was measured.
    pub measure: String,
    /// In what.
    pub unit: String,
    /// One of each round, in their order.
    pub values: Vec<f64>,
}

/// What a bench has found so far.
#[derive(Clone, Debug)]
pub struct Record {
    question: &'static str,
    lines: Vec<Line>,
}

/// Whether the lines are asked for, and nothing else.
#[must_use]
pub fn is_recorded() -> bool {
    env::var_os(FILE).is_some()
}

impl Record {
    /// Of the bench of this name.
    #[must_use]
    pub fn new(question: &'static str) -> Self {
        Self {
            question,
            lines: Vec::new(),
        }
    }

    /// Adds the value of a round.
    ///
    /// ```
    /// use leadpool_benches::Record;
    ///
    /// let mut record = Record::new("checkout");
    /// record.value("idle", "leadpool", ("time", "ns"), 480.0);
    /// record.value("idle", "leadpool", ("time", "ns"), 475.5);
    /// assert_eq!(record.lines()[0].values, [480.0, 475.5]);
    /// ```
    pub fn value(&mut self, case: &str, rival: &str, (measure, unit): (&str, &str), value: f64) {
        let is_same =
            |line: &&mut Line| line.case == case && line.rival == rival && line.measure == measure;
        match self.lines.iter_mut().find(is_same) {
            Some(line) => line.values.push(value),
            None => self.lines.push(Line {
                question: self.question.to_owned(),
                case: case.to_owned(),
                rival: rival.to_owned(),
                measure: measure.to_owned(),
                unit: unit.to_owned(),
                values: vec![value],
            }),
        }
    }

    /// All of them, in the order in which they began.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Shows medians as tables, and appends the lines to the file if one is named.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn finish(mut self) -> Result<(), Error> {
        // By case, each with all that was measured in it.
        let mut cases: Vec<&str> = Vec::new();
        for line in &self.lines {
            if !cases.contains(&line.case.as_str()) {
                cases.push(&line.case);
            }
        }
        for case in cases {
            println!("\n{}, {case}; medians", self.question);
            let mut rivals: Vec<&str> = Vec::new();
            let mut rows: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for line in self.lines.iter().filter(|line| line.case == case) {
                if !rivals.contains(&line.rival.as_str()) {
                    rivals.push(&line.rival);
                }
                let Line { measure, unit, .. } = line;
                let value = median(&line.values);
                let shown = format!("{measure} {value:.2} {unit}");
                rows.entry(&line.rival).or_default().push(shown);
            }
            for rival in rivals {
                println!("  {rival:28} {}", rows[rival].join(" | "));
            }
        }
        let Some(path) = env::var_os(FILE) else {
            return Ok(());
        };
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        for line in self.lines.drain(..) {
            let mut text = serde_json::to_string(&line)?;
            text.push('\n');
            file.write_all(text.as_bytes())?;
        }
        Ok(())
    }
}

/// The middle one; 0 of none.
fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
