//! Whether a statement writes, by its words.

use std::iter;

/// What statements may begin with: they read, or are about the transaction or the session.
const READS: [&str; 18] = [
    "SELECT",
    "WITH",
    "VALUES",
    "TABLE",
    "SHOW",
    "EXPLAIN",
    "BEGIN",
    "START",
    "COMMIT",
    "END",
    "ROLLBACK",
    "ABORT",
    "SAVEPOINT",
    "RELEASE",
    "SET",
    "RESET",
    "FETCH",
    "DISCARD",
];
/// What writes within a statement that begins with `WITH`.
const WRITES: [&str; 4] = ["INSERT", "UPDATE", "DELETE", "MERGE"];
/// What follows on `FOR` where rows are locked, which a standby refuses.
const LOCKS: [&str; 4] = ["UPDATE", "SHARE", "NO", "KEY"];

/// The word by which one of these statements writes, or `None`.
pub(crate) fn writes(sql: &str) -> Option<&str> {
    let mut first: Option<&str> = None;
    let mut last = "";
    for word in words(sql) {
        if word == ";" {
            (first, last) = (None, "");
            continue;
        }
        let is = |all: &[&str]| all.iter().any(|one| one.eq_ignore_ascii_case(word));
        match first {
            None if !is(&READS) => return Some(word),
            None => first = Some(word),
            Some(first) => {
                let is_locking = last.eq_ignore_ascii_case("FOR") && is(&LOCKS);
                let is_with = first.eq_ignore_ascii_case("WITH");
                let is_into = first.eq_ignore_ascii_case("SELECT") && is(&["INTO"]);
                if is_locking || is_into || is_with && is(&WRITES) {
                    return Some(word);
                }
            }
        }
        last = word;
    }
    None
}

/// The words, and the semicolons between statements; not what is quoted or a comment.
fn words(sql: &str) -> impl Iterator<Item = &str> {
    let mut rest = sql;
    iter::from_fn(move || {
        loop {
            let next = rest.chars().next()?;
            let is_of_word = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            if next == ';' {
                let (word, behind) = rest.split_at(1);
                rest = behind;
                return Some(word);
            }
            if next.is_alphabetic() || next == '_' {
                let end = rest.find(|c| !is_of_word(c)).unwrap_or(rest.len());
                let (word, behind) = rest.split_at(end);
                rest = behind;
                return Some(word);
            }
            rest = behind(rest, next);
        }
    })
}

/// What comes behind something that is no word.
fn behind(text: &str, next: char) -> &str {
    let after = |start: usize, end: &str| {
        let found = text.get(start..).and_then(|inside| inside.find(end));
        found.map_or("", |at| &text[start + at + end.len()..])
    };
    match next {
        // A doubled quote is a second text right behind the first.
        '\'' => after(1, "'"),
        '"' => after(1, "\""),
        '-' if text.starts_with("--") => after(2, "\n"),
        '/' if text.starts_with("/*") => after(2, "*/"),
        '$' => match text[1..].find('$') {
            // A number of a parameter ends in none.
            Some(end) if !text[1..=end].contains(|c: char| !c.is_alphanumeric() && c != '_') => {
                let tag = &text[..end + 2];
                after(tag.len(), tag)
            }
            _ => &text[1..],
        },
        next => &text[next.len_utf8()..],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_its_words() {
        for (sql, word) in [
            ("", None),
            ("SELECT 1", None),
            ("select 'x; DELETE', \"update\" FROM t -- INSERT\n", None),
            (
                "/* DELETE */ SELECT $1, $$ ; DELETE $$, $a$ ; DELETE $a$",
                None,
            ),
            ("SELECT id FROM t WHERE n = $1 AND m = $2", None),
            ("(SELECT 1) UNION SELECT 2", None),
            ("WITH a AS (SELECT 1) SELECT * FROM a", None),
            ("BEGIN; SELECT 1; COMMIT", None),
            ("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE", None),
            ("SAVEPOINT diesel_savepoint_1", None),
            ("SELECT substring('a' FOR 2)", None),
            ("INSERT INTO t VALUES (1)", Some("INSERT")),
            (" \n-- why\n(update t set n = 1)", Some("update")),
            ("SELECT 1; DELETE FROM t", Some("DELETE")),
            (
                "WITH a AS (DELETE FROM t RETURNING 1) SELECT * FROM a",
                Some("DELETE"),
            ),
            ("SELECT 1 FROM t FOR UPDATE", Some("UPDATE")),
            ("SELECT 1 FROM t FOR NO KEY UPDATE", Some("NO")),
            ("SELECT 1 INTO a FROM t", Some("INTO")),
            ("TRUNCATE t", Some("TRUNCATE")),
            ("CALL p()", Some("CALL")),
            ("SELECT 'it''s'; DROP TABLE t", Some("DROP")),
            ("ä", Some("ä")),
        ] {
            assert_eq!(writes(sql), word, "{sql}");
        }
    }
}
