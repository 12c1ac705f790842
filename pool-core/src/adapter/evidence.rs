//! Evidence of a transaction in one question, for drivers that can't ask beside the closure.

use uuid::Uuid;

use crate::{
    error::Error,
    outcome::{Evidence, Incarnation, TokenTable},
    topology::{HostAddr, Lsn},
    tx::{ABORTED, Failure, Resolve, SIGN, TxAttempt},
};

/// What is asked as the last statement of a transaction that may have written: one row with one
/// column of type `text`.
///
/// In a transaction that has failed it fails itself, with 25P02. To one that only read it adds
/// nothing.
pub const QUESTION: &str = "\
SELECT pg_catalog.concat(\
       pg_catalog.current_setting('leadpool.transaction', true), '|', \
       pg_catalog.pg_current_xact_id_if_assigned(), '|', \
       CASE WHEN pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL \
            THEN pg_catalog.pg_logical_emit_message(true, 'leadpool'::pg_catalog.text, ''::pg_catalog.text) END, '|', \
       pg_catalog.pg_current_wal_flush_lsn(), '|', \
       (EXTRACT(epoch FROM pg_catalog.transaction_timestamp()) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8, '|', \
       pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8), '|', \
       pg_catalog.pg_last_wal_replay_lsn(), '|', \
       pg_catalog.pg_last_wal_receive_lsn(), '|', \
       (EXTRACT(epoch FROM pg_catalog.pg_postmaster_start_time()) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8, '|', \
       pg_catalog.pg_backend_pid())";

/// What the last question of a transaction found out.
#[derive(Debug, PartialEq)]
enum Found {
    /// It was not asked inside of our transaction.
    NotOurs,
    /// It wrote nothing.
    Nothing,
    Evidence(Box<Evidence>),
}

/// Reads the answer to [`QUESTION`]; `None` if it is none.
fn read(host: &HostAddr, answer: &str) -> Option<Found> {
    let mut parts = answer.split('|');
    let mut next = || parts.next();
    if next()? != SIGN {
        return Some(Found::NotOurs);
    }
    let transaction = next()?;
    if transaction.is_empty() {
        return Some(Found::Nothing);
    }
    let lsn = |text: &str| text.parse::<Lsn>().ok();
    let evidence = Evidence {
        host: host.clone(),
        system_identifier: None,
        transaction: transaction.parse().ok()?,
        marker: lsn(next()?)?,
        flushed: lsn(next()?)?,
        began_at: next()?.parse().ok()?,
        incarnation: Incarnation {
            timeline: u32::from_str_radix(next()?, 16).ok()?,
            replayed: lsn(next()?),
            received: lsn(next()?),
            started_at: next()?.parse().ok()?,
        },
        backend: next()?.parse().ok()?,
        token: None,
    };
    Some(Found::Evidence(Box::new(evidence)))
}

/// What stands in place of `SHOW` where its row can't be read: it fails if the transaction is not
/// ours, with [`NOT_OURS`] in the error's message.
const CHECK: &str = "\
SELECT (CASE WHEN pg_catalog.current_setting('leadpool.transaction', true) OPERATOR(pg_catalog.=) 'ours' \
             THEN '1' ELSE 'leadpool: not ours' END)::pg_catalog.int4";
const SHOW: &str = "SHOW leadpool.transaction";

/// What the message of an error says with which [`TxAttempt::commit_sql_unread`] fails in another
/// transaction than ours, or outside of any.
pub const NOT_OURS: &str = "leadpool: not ours";

/// What is sent to end a transaction: one message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommitSql {
    /// The statements, with `COMMIT` at the end. An adapter may add `AND CHAIN`.
    pub text: String,
    /// How many there are, and so how many the server completes if all goes well.
    pub statements: usize,
}

impl CommitSql {
    fn new(commit: &str, token: Option<(&TokenTable, Uuid)>) -> Self {
        let statements = commit.split(';').count();
        match token {
            Some((table, token)) => {
                let insert = table.insert().replace("$1", &format!("'{token}'"));
                Self {
                    text: format!("{insert};{commit}"),
                    statements: statements + 1,
                }
            }
            None => Self {
                text: commit.to_owned(),
                statements,
            },
        }
    }
}

impl<R: Resolve> TxAttempt<'_, R> {
    /// Takes in the answer to [`QUESTION`], or how it failed.
    ///
    /// # Errors
    ///
    /// The failure that the attempt ends with: the transaction had failed, or was not ours, or the
    /// question itself failed.
    pub fn note_evidence(&mut self, answer: Result<&str, Error>) -> Result<(), Failure> {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if error.sqlstate() == Some(ABORTED) => {
                return Err(self.failure(Error::RolledBack));
            }
            Err(error) => return Err(self.failure(error)),
        };
        let evidence = match read(self.generation().host(), answer) {
            Some(Found::NotOurs) => return Err(self.failure(Error::EndedByClosure)),
            Some(Found::Nothing) => None,
            Some(Found::Evidence(evidence)) => Some(*evidence),
            None => {
                let text = format!("{answer:?} is no answer to the question for evidence");
                return Err(self.failure(Error::user(text)));
            }
        };
        let leaves_token = self.cluster().config().tx().token_table.is_some();
        self.set_evidence(evidence, leaves_token.then(Uuid::new_v4));
        Ok(())
    }

    /// What to send as one message: COMMIT, and before it what makes it fail in a transaction that
    /// has failed (25P02), the token if there is a table for it, and `SHOW`, whose row has to be
    /// [`SIGN`].
    #[must_use]
    pub fn commit_sql(&self) -> CommitSql {
        self.with_token(self.guarded_commit())
    }

    /// The same for drivers that can't read the row: what was not asked for by [`QUESTION`] just
    /// before fails with [`NOT_OURS`] in its message.
    #[must_use]
    pub fn commit_sql_unread(&self) -> CommitSql {
        let commit = self.guarded_commit();
        match self.was_asked() {
            true => self.with_token(commit),
            false => self.with_token(&commit.replacen(SHOW, CHECK, 1)),
        }
    }

    fn with_token(&self, commit: &str) -> CommitSql {
        let table = self.cluster().config().tx().token_table.as_ref();
        CommitSql::new(commit, table.zip(self.token()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let host = HostAddr::new("db1", 5432);
        let read = |answer| read(&host, answer);
        let full = "ours|7|0/1A|0/10|-5|0000000A||0/3|9|4711";
        let Some(Found::Evidence(evidence)) = read(full) else {
            panic!("{:?}", read(full));
        };
        assert_eq!(evidence.transaction, 7);
        assert_eq!(evidence.marker, Lsn::new(0x1A));
        assert_eq!(evidence.incarnation.timeline, 10);
        assert_eq!(evidence.incarnation.replayed, None);
        assert_eq!(evidence.incarnation.received, Some(Lsn::new(3)));
        assert_eq!((evidence.began_at, evidence.backend), (-5, 4711));
        assert_eq!(read("ours||||1|00000001|||2|3"), Some(Found::Nothing));
        assert_eq!(read("||||1|00000001|||2|3"), Some(Found::NotOurs));
        assert_eq!(read("ours|7|0/1A"), None);
    }

    #[test]
    fn the_check_asks_for_the_sign() {
        assert!(CHECK.contains(&format!("'{SIGN}'")) && CHECK.contains(NOT_OURS));
    }

    #[test]
    fn a_token_is_left_before_commit() {
        let table = TokenTable::new("app.token").unwrap();
        let sql = CommitSql::new("SHOW a;COMMIT", Some((&table, Uuid::nil())));
        assert_eq!(sql.statements, 3);
        let sql = sql.text;
        assert!(
            sql.contains("('00000000-0000-0000-0000-000000000000'::"),
            "{sql}"
        );
        assert!(sql.ends_with(";SHOW a;COMMIT"), "{sql}");
    }
}
