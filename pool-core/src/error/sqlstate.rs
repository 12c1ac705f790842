//! What each SQLSTATE asks for, phase by phase.

use super::Disposition::{self, CheckRole, Fail, Resolve, RetryHere, WaitTopology};

/// A code of five characters or a class of two, its name, and what it asks for before anything is
/// sent, in a transaction, in answer to COMMIT, and in a transaction that only reads.
pub(super) type Row = (&'static str, &'static str, [Disposition; 4]);

const NEVER: [Disposition; 4] = [Fail; 4];
/// Whatever was under way, another place or time may be better.
const GOING: [Disposition; 4] = [WaitTopology; 4];
const LOST_A_RACE: [Disposition; 4] = [Fail, RetryHere, RetryHere, RetryHere];
/// So may a host answer that was the writer a moment ago, and so any writer to a wrong statement.
const AS_STANDBY: [Disposition; 4] = [Fail, CheckRole, CheckRole, Fail];

/// Every class, and of each the codes that differ from it; a code goes before its class.
///
/// Source: [PostgreSQL documentation, appendix A](https://www.postgresql.org/docs/18/errcodes-appendix.html).
#[rustfmt::skip]
pub(super) const TABLE: [Row; 58] = [
    ("00",    "successful completion",                    NEVER),
    ("01",    "warning",                                  NEVER),
    ("02",    "no data",                                  NEVER),
    ("03",    "SQL statement not yet complete",           NEVER),
    // By a proxy: no server answers so. That it lost the server is all that it knows.
    ("08",    "connection exception",                     [WaitTopology, WaitTopology, Resolve, WaitTopology]),
    ("09",    "triggered action exception",               NEVER),
    // SERIALIZABLE and READ WRITE, on a standby.
    ("0A",    "feature not supported",                    AS_STANDBY),
    ("0B",    "invalid transaction initiation",           NEVER),
    ("0F",    "locator exception",                        NEVER),
    ("0L",    "invalid grantor",                          NEVER),
    ("0P",    "invalid role specification",               NEVER),
    ("0Z",    "diagnostics exception",                    NEVER),
    ("10",    "XQuery error",                             NEVER),
    ("20",    "case not found",                           NEVER),
    ("21",    "cardinality violation",                    NEVER),
    ("22",    "data exception",                           NEVER),
    ("23",    "integrity constraint violation",           NEVER),
    ("24",    "invalid cursor state",                     NEVER),
    // How a demotion shows first. Who only reads has written by mistake.
    ("25006", "read-only SQL transaction",                AS_STANDBY),
    ("25",    "invalid transaction state",                NEVER),
    ("26",    "invalid SQL statement name",               NEVER),
    ("27",    "triggered data change violation",          NEVER),
    ("28",    "invalid authorization specification",      NEVER),
    ("2B",    "dependent privilege descriptors",          NEVER),
    ("2D",    "invalid transaction termination",          NEVER),
    ("2F",    "SQL routine exception",                    NEVER),
    ("34",    "invalid cursor name",                      NEVER),
    ("38",    "external routine exception",               NEVER),
    ("39",    "external routine invocation exception",    NEVER),
    ("3B",    "savepoint exception",                      NEVER),
    ("3D",    "invalid catalog name",                     NEVER),
    ("3F",    "invalid schema name",                      NEVER),
    // Also a conflict with recovery, on a standby.
    ("40001", "serialization failure",                    LOST_A_RACE),
    ("40002", "transaction integrity constraint violation", NEVER),
    // The server says itself that it does not know.
    ("40003", "statement completion unknown",             [WaitTopology, WaitTopology, Resolve, WaitTopology]),
    ("40P01", "deadlock detected",                        LOST_A_RACE),
    ("40",    "transaction rollback",                     LOST_A_RACE),
    ("42",    "syntax error or access rule violation",    NEVER),
    ("44",    "WITH CHECK OPTION violation",              NEVER),
    ("53300", "too many connections",                     [RetryHere; 4]),
    ("53",    "insufficient resources",                   NEVER),
    ("54",    "program limit exceeded",                   NEVER),
    // Also "recovery is in progress", on a standby.
    ("55000", "object not in prerequisite state",         AS_STANDBY),
    // NOWAIT and lock_timeout: who sets them wants to be told.
    ("55P03", "lock not available",                       NEVER),
    ("55",    "object not in prerequisite state",         NEVER),
    // Statement timeout, or somebody's cancel request.
    ("57014", "query canceled",                           NEVER),
    ("57P01", "admin shutdown",                           GOING),
    ("57P02", "crash shutdown",                           GOING),
    ("57P03", "cannot connect now",                       GOING),
    ("57P04", "database dropped",                         NEVER),
    ("57P05", "idle session timeout",                     GOING),
    ("57",    "operator intervention",                    NEVER),
    ("58",    "system error",                             NEVER),
    // Before PostgreSQL 17.
    ("72",    "snapshot failure",                         LOST_A_RACE),
    ("F0",    "configuration file error",                 NEVER),
    ("HV",    "foreign data wrapper error",               NEVER),
    ("P0",    "PL/pgSQL error",                           NEVER),
    ("XX",    "internal error",                           NEVER),
];

/// The row of a code: its own, or that of its class. `None` if PostgreSQL has no such class.
pub(super) fn row(code: &str) -> Option<&'static Row> {
    let find = |key: &str| TABLE.iter().find(|(of, ..)| *of == key);
    find(code).or_else(|| find(code.get(..2)?))
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fs, path::Path};

    use super::*;

    fn read(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
    }

    #[test]
    fn every_class_of_the_list_has_a_row_and_no_row_is_made_up() {
        let list = read("tests/data/sqlstates-18.txt");
        let mut known = HashSet::from(["72"]);
        let (mut classes, mut codes) = (0, 0);
        for line in list.lines() {
            if let Some(class) = line.strip_prefix("class ") {
                assert!(TABLE.iter().any(|(key, ..)| *key == &class[..2]), "{class}");
                known.insert(&class[..2]);
                classes += 1;
            } else if let Some(code) = line.get(..5).filter(|_| !line.starts_with('#')) {
                assert!(row(code).is_some(), "{code}");
                known.insert(code);
                codes += 1;
            }
        }
        assert_eq!((classes, codes), (43, 268));
        for (key, ..) in TABLE {
            assert!(known.contains(key), "{key}");
        }
    }

    #[test]
    fn the_rows_are_in_order_and_each_code_stands_before_its_class() {
        let keys: Vec<&str> = TABLE.iter().map(|(key, ..)| *key).collect();
        for pair in keys.windows(2) {
            let (first, second) = (pair[0], pair[1]);
            assert!(
                first < second || first.len() > 2 && first.starts_with(second),
                "{first} {second}"
            );
        }
    }

    #[test]
    fn a_code_that_differs_in_nothing_needs_no_row() {
        for (key, _, own) in TABLE.iter().filter(|(key, ..)| key.len() > 2) {
            let (.., class) = row(&key[..2]).unwrap();
            let is_explained = ["40P01", "40001", "55P03", "57014", "57P04"].contains(key);
            assert!(own != class || is_explained, "{key}");
        }
    }

    #[test]
    fn a_code_of_no_class_has_no_row() {
        for code in ["", "5", "ZZ000", "é0000"] {
            assert!(row(code).is_none(), "{code}");
        }
    }

    /// The manual shows what is not simply an error.
    #[test]
    fn the_manual_has_the_same_table() {
        let word = |disposition: &Disposition| match disposition {
            Fail => "error",
            RetryHere => "retry",
            WaitTopology => "wait, retry",
            CheckRole => "look, retry",
            Resolve => "find out",
        };
        let shown: Vec<String> = TABLE
            .iter()
            .filter(|(key, _, what)| *what != NEVER || key.len() > 2)
            .map(|(key, name, what)| {
                let words: Vec<&str> = what.iter().map(word).collect();
                format!("| {key} | {name} | {} |", words.join(" | "))
            })
            .collect();
        let page = read("src/manual/retries.md");
        let written: Vec<&str> = page
            .lines()
            .skip_while(|line| !line.starts_with("|---"))
            .skip(1)
            .take_while(|line| line.starts_with("| "))
            .collect();
        assert_eq!(written, shown);
    }
}
