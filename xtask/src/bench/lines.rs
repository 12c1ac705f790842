//! What the benches hand over: a JSON object a line, as `benches/src/record.rs` writes them.

use std::{fs, io::ErrorKind, path::Path};

use serde::{Deserialize, Serialize};

use crate::Result;

/// One measure of one rival.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) question: String,
    pub(super) case: String,
    pub(super) rival: String,
    pub(super) measure: String,
    pub(super) unit: String,
    /// One of each round.
    pub(super) values: Vec<f64>,
}

impl Line {
    pub(super) fn median(&self) -> f64 {
        median(self.values.clone())
    }

    /// The least and the most.
    pub(super) fn range(&self) -> (f64, f64) {
        let values = self.values.iter().copied();
        let least = values.clone().fold(f64::INFINITY, f64::min);
        (least, values.fold(f64::NEG_INFINITY, f64::max))
    }

    /// The median of what it is of the other in the same round: what else the machine did then has
    /// met both.
    pub(super) fn ratio_to(&self, other: &Self) -> Option<f64> {
        let pairs = self.values.iter().zip(&other.values);
        let ratios: Vec<f64> = pairs.map(|(own, other)| own / other).collect();
        let ratio = median(ratios);
        ratio.is_finite().then_some(ratio)
    }
}

/// NaN of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.len() % 2, values.get(middle)) {
        (_, None) => f64::NAN,
        (1, Some(value)) => *value,
        (_, Some(value)) => f64::midpoint(values[middle - 1], *value),
    }
}

/// None of a file that is not there.
pub(super) fn read(path: &Path) -> Result<Vec<Line>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let parsed = text.lines().enumerate().map(|(at, line)| {
        let parsed = serde_json::from_str(line);
        parsed.map_err(|error| format!("{}, line {}: {error}", path.display(), at + 1).into())
    });
    parsed.collect()
}

pub(super) fn write(path: &Path, lines: &[Line]) -> Result<()> {
    let mut text = String::new();
    for line in lines {
        text.push_str(&serde_json::to_string(line)?);
        text.push('\n');
    }
    Ok(fs::write(path, text)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(values: &[f64]) -> Line {
        Line {
            question: "checkout".into(),
            case: "idle".into(),
            rival: "leadpool".into(),
            measure: "time".into(),
            unit: "ns".into(),
            values: values.into(),
        }
    }

    #[test]
    fn the_middle_and_the_ends() {
        assert_eq!(line(&[5.0, 1.0, 3.0]).median(), 3.0);
        assert_eq!(line(&[4.0, 1.0, 3.0, 100.0]).median(), 3.5);
        assert_eq!(line(&[5.0, 1.0, 3.0]).range(), (1.0, 5.0));
        assert!(line(&[]).median().is_nan());
    }

    #[test]
    fn rounds_are_compared_before_they_are_put_in_order() {
        // Each round twice as long, though the machine was three times as slow in the last.
        let first = line(&[10.0, 20.0, 30.0]);
        let own = line(&[20.0, 40.0, 60.0]);
        assert_eq!(own.ratio_to(&first), Some(2.0));
        // 1.5 times the median, and twice as long in the middle one of the rounds' ratios.
        let crossed = line(&[20.0, 60.0, 30.0]);
        assert_eq!(crossed.ratio_to(&first), Some(2.0));
        assert_eq!(own.ratio_to(&line(&[0.0])), None);
    }

    #[test]
    fn lines_survive_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lines");
        assert_eq!(read(&path).unwrap(), []);
        let lines = [line(&[1.0, 2.5]), line(&[])];
        write(&path, &lines).unwrap();
        assert_eq!(read(&path).unwrap(), lines);
        fs::write(&path, "{}\n").unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("line 1"));
    }
}
