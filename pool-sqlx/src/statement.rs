//! A statement that can be sent more than once.

use sqlx::{
    Execute, Postgres, SqlStr,
    postgres::{PgArguments, PgStatement},
};

/// What sqlx needs of a query to send it, taken out of the query.
#[derive(Clone)]
pub(crate) struct Statement {
    sql: SqlStr,
    arguments: Option<PgArguments>,
    prepared: Option<PgStatement>,
    is_persistent: bool,
}

impl Statement {
    pub(crate) fn of<'q>(mut query: impl Execute<'q, Postgres>) -> Result<Self, sqlx::Error> {
        Ok(Self {
            arguments: query.take_arguments().map_err(sqlx::Error::Encode)?,
            prepared: query.statement().cloned(),
            is_persistent: query.persistent(),
            sql: query.sql(),
        })
    }

    /// Whether it happens all or not at all.
    ///
    /// A procedure or `DO` block can commit in its midst, utility commands do as they like, and so
    /// does a list of statements, which only those without arguments can be.
    pub(crate) fn is_atomic(&self) -> bool {
        let sql = self.sql.as_str();
        let is_list =
            self.arguments.is_none() && sql.trim_end_matches([' ', '\n', ';']).contains(';');
        !is_list
            && ATOMIC
                .iter()
                .any(|word| first_word(sql).eq_ignore_ascii_case(word))
    }
}

const ATOMIC: [&str; 10] = [
    "SELECT", "INSERT", "UPDATE", "DELETE", "MERGE", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN",
];

/// The first word behind white space, comments and parentheses.
fn first_word(sql: &str) -> &str {
    let mut rest = sql;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '(');
        rest = if let Some(comment) = rest.strip_prefix("--") {
            comment.split_once('\n').map_or("", |(_, behind)| behind)
        } else if let Some(comment) = rest.strip_prefix("/*") {
            comment.split_once("*/").map_or("", |(_, behind)| behind)
        } else {
            break;
        };
    }
    let end = rest.find(|c: char| !c.is_ascii_alphabetic());
    &rest[..end.unwrap_or(rest.len())]
}

impl Execute<'_, Postgres> for Statement {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.prepared.as_ref()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, sqlx::error::BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.is_persistent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happens_all_or_not_at_all() {
        let atomic = |sql: &'static str| Statement::of(sql).unwrap().is_atomic();
        assert!(atomic("select 1"));
        assert!(atomic(
            " -- why\n /* and how */ (SELECT 1) UNION SELECT 2 ;\n"
        ));
        assert!(atomic("INSERT INTO t VALUES (1)"));
        for sql in [
            "",
            "--",
            "/*",
            "CALL p()",
            "DO $$ BEGIN COMMIT; END $$",
            "VACUUM",
            "COMMIT",
            "INSERT INTO t VALUES (1); COMMIT; INSERT INTO t VALUES (2)",
            "SELECTED",
        ] {
            assert!(!atomic(sql), "{sql}");
        }
        // With arguments it can be one only.
        let query = sqlx::query("SELECT ';' || $1").bind("x");
        assert!(Statement::of(query).unwrap().is_atomic());
    }
}
