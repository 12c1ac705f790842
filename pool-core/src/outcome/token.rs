//! The table of tokens: a row for each transaction that wrote.

use std::fmt;

/// The names that PostgreSQL truncates silently are refused
/// ([PostgreSQL documentation, section 4.1.1](https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-SYNTAX-IDENTIFIERS)).
const LONGEST_NAME: usize = 63;

/// A table in which each transaction that writes leaves a row: the second way to find out what
/// became of a COMMIT, where the log can't prove it.
///
/// The row is part of the transaction, so it is there if, and only if, the transaction is. It
/// costs one insert, sent together with COMMIT.
///
/// ```
/// use leadpool::outcome::TokenTable;
///
/// let table = TokenTable::new("app.leadpool_token")?;
/// println!("{}", table.migration());
/// # Ok::<(), leadpool::outcome::InvalidTokenTable>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenTable {
    schema: Option<String>,
    name: String,
}

/// A name that can't be that of a table.
///
/// ```
/// use leadpool::outcome::TokenTable;
///
/// assert!(TokenTable::new("a.b.c").is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name:?} is no name of a table: write `name` or `schema.name`, letters, digits and \
     underscores, 63 bytes each at most"
)]
#[non_exhaustive]
pub struct InvalidTokenTable {
    /// What was given.
    pub name: String,
}

impl TokenTable {
    /// The table of this name, `name` or `schema.name`, in lower-case letters, digits and
    /// underscores. Without a schema the connection's `search_path` decides.
    ///
    /// # Errors
    ///
    /// The name is empty, too long, or contains something else.
    pub fn new(name: &str) -> Result<Self, InvalidTokenTable> {
        let is_plain = |part: &str| {
            (1..=LONGEST_NAME).contains(&part.len())
                && !part.starts_with(|c: char| c.is_ascii_digit())
                && part
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let (schema, table) = match name.split_once('.') {
            Some((schema, table)) => (Some(schema), table),
            None => (None, name),
        };
        if is_plain(table) && schema.is_none_or(is_plain) {
            Ok(Self {
                schema: schema.map(str::to_owned),
                name: table.to_owned(),
            })
        } else {
            Err(InvalidTokenTable {
                name: name.to_owned(),
            })
        }
    }

    /// The statements that make the table, for a migration. Whoever runs transactions needs
    /// `INSERT` and `SELECT` on it, whoever cleans it `DELETE` too.
    #[must_use]
    pub fn migration(&self) -> String {
        format!(
            "CREATE TABLE IF NOT EXISTS {self} (\n    \
                 token uuid PRIMARY KEY,\n    \
                 created_at timestamptz NOT NULL DEFAULT pg_catalog.now()\n\
             );\n\
             CREATE INDEX IF NOT EXISTS \"{}_created_at\" ON {self} USING brin (created_at);\n",
            self.name
        )
    }

    /// Leaves a token: `$1`, as text.
    pub(crate) fn insert(&self) -> String {
        format!("INSERT INTO {self} (token) VALUES ($1::pg_catalog.text::pg_catalog.uuid)")
    }

    /// Looks for a token: `$1`, as text.
    pub(crate) fn find(&self) -> String {
        format!(
            "SELECT EXISTS (SELECT FROM {self} WHERE token \
             OPERATOR(pg_catalog.=) $1::pg_catalog.text::pg_catalog.uuid)"
        )
    }

    /// Deletes tokens older than `$1` seconds, `$2` of them at most, and none that another
    /// cleaner is deleting.
    pub(crate) fn clean(&self) -> String {
        format!(
            "DELETE FROM {self} WHERE token IN (\
                 SELECT token FROM {self} \
                 WHERE created_at < pg_catalog.now() - pg_catalog.make_interval(secs => $1) \
                 LIMIT $2 FOR UPDATE SKIP LOCKED)"
        )
    }
}

/// Quoted, for SQL.
impl fmt::Display for TokenTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(schema) = &self.schema {
            write!(f, "\"{schema}\".")?;
        }
        write!(f, "\"{}\"", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let quoted = |name| TokenTable::new(name).map(|table| table.to_string());
        assert_eq!(quoted("t").unwrap(), "\"t\"");
        assert_eq!(quoted("a_1.t").unwrap(), "\"a_1\".\"t\"");
        let long = "x".repeat(64);
        for bad in [
            "", ".", "a.", ".b", "a.b.c", "1a", "A", "a b", "a\"b", &long,
        ] {
            assert!(quoted(bad).is_err(), "{bad}");
        }
    }
}
