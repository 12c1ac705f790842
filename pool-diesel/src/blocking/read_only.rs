//! Statements that write, refused before the server sees them.

use diesel::{
    QueryResult,
    pg::{Pg, PgQueryBuilder},
    query_builder::{QueryBuilder as _, QueryFragment},
    result::{DatabaseErrorKind, Error},
};

use crate::writes::writes;

/// The text of a statement.
pub(super) fn sql(source: &impl QueryFragment<Pg>) -> QueryResult<String> {
    let mut sql = PgQueryBuilder::default();
    source.to_sql(&mut sql, &Pg)?;
    Ok(sql.finish())
}

/// # Errors
///
/// That of a read-only transaction, as if the server had said so.
pub(super) fn refuse_writes(sql: &str) -> QueryResult<()> {
    match writes(sql) {
        None => Ok(()),
        Some(word) => Err(Error::DatabaseError(
            DatabaseErrorKind::ReadOnlyTransaction,
            Box::new(format!(
                "`{word}` on a connection of `reader()`, which refuses writes: nothing was sent; \
                 use the pool itself"
            )),
        )),
    }
}
