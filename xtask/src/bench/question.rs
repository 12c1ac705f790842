//! What is asked, in this order.

use clap::ValueEnum;

/// A bench of the same name in `benches/benches`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(super) enum Question {
    Checkout,
    Contention,
    SelectOne,
    Transactions,
    ColdBurst,
    Reads,
    Memory,
    Monitor,
    Failover,
    Counts,
}

impl Question {
    pub(super) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// That of its bench, too.
    pub(super) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub(super) fn asks(self) -> &'static str {
        match self {
            Self::Checkout => "Checkout and return of an idle connection",
            Self::Contention => "More tasks than connections",
            Self::SelectOne => "Checkout, a prepared `SELECT 1`, return",
            Self::Transactions => "Transactions of one insert and of five, by network delay",
            Self::ColdBurst => "Many tasks at once on an empty pool",
            Self::Reads => "Reads over two standbys",
            Self::Memory => "Memory of an idle connection",
            Self::Monitor => "What an idle pool costs",
            Self::Failover => "Writers while the primary is lost and a standby promoted",
            Self::Counts => "Allocations and instructions",
        }
    }

    /// The measure that is drawn.
    pub(super) fn headline(self) -> &'static str {
        match self {
            Self::Checkout => "checkout and return",
            Self::Contention => "throughput",
            Self::SelectOne | Self::Transactions => "time of each",
            Self::ColdBurst => "all served",
            Self::Reads => "throughput",
            Self::Memory => "each connection",
            Self::Monitor => "processor time",
            Self::Failover => "first write after ready",
            Self::Counts => "allocations",
        }
    }

    /// The cases that stand for all in the project's README.
    pub(super) fn examples(self) -> &'static [&'static str] {
        match self {
            Self::Checkout => &["idle, 1 task"],
            Self::Contention => &["64 tasks on 8, SELECT 1", "64 tasks on 8, yield"],
            Self::SelectOne => &["16 at once"],
            Self::Transactions => &["1 insert, 500µs each way, 1 at once"],
            Self::ColdBurst => &["500 tasks on an empty pool of 16"],
            Self::Reads => &["16 tasks, 2 standbys"],
            Self::Memory => &["16 idle"],
            Self::Monitor => &["idle, 3 hosts"],
            Self::Failover => &[
                "8 writers, kill and promote",
                "8 writers, freeze and promote",
            ],
            Self::Counts => &["checkout"],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn each_question_has_its_bench() {
        let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches");
        let manifest = fs::read_to_string(benches.join("Cargo.toml")).unwrap();
        for question in Question::all() {
            let name = question.name();
            let source = benches.join(format!("benches/{name}.rs"));
            let source = fs::read_to_string(&source).expect(&name);
            let target = format!("[[bench]]\nname = \"{name}\"\nharness = false\n");
            assert!(manifest.contains(&target), "{name} is no target");
            // What it says of itself, and what is drawn, are there.
            assert!(
                source.contains(&format!("Record::new(\"{name}\")")),
                "{name}"
            );
            let headline = format!("\"{}\"", question.headline());
            assert!(source.contains(&headline), "{name}: {headline}");
        }
    }

    #[test]
    fn each_bench_that_records_is_a_question() {
        let benches = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/benches");
        for entry in fs::read_dir(benches).unwrap() {
            let path = entry.unwrap().path();
            let source = fs::read_to_string(&path).unwrap();
            if source.contains("Record::new(") {
                let name = path.file_stem().unwrap().to_string_lossy();
                let mut all = Question::all().iter();
                assert!(all.any(|question| question.name() == name), "{name}");
            }
        }
    }
}
