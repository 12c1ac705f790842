//! What a transaction of one statement sends at once, and what it is answered.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

use deadpool_postgres::Client;
use futures_util::{
    TryStreamExt as _,
    future::{MaybeDone, OptionFuture, maybe_done},
};
use tokio_postgres::{Row, Statement, types::ToSql};

use super::Native;
use crate::{
    error::BoxError,
    pool::SubPools,
    tx::{Failure, TxAttempt},
};

/// Values for the placeholders of a statement.
pub(super) type Parameters<'a> = [&'a (dyn ToSql + Sync)];

/// What a statement gave back.
pub(super) struct Answer {
    pub(super) rows: Vec<Row>,
    /// As the server counts them: of an INSERT, UPDATE or DELETE those that it touched.
    pub(super) count: u64,
}

/// What goes out together, behind BEGIN.
pub(super) struct Burst<'a> {
    pub(super) client: &'a Client,
    pub(super) statement: &'a Statement,
    /// For evidence.
    pub(super) question: Option<&'a Statement>,
    pub(super) parameters: &'a Parameters<'a>,
}

impl Burst<'_> {
    /// Sends the statement, the question and COMMIT, and waits for the answers to the first two,
    /// until it is `enough`.
    ///
    /// # Errors
    ///
    /// The attempt ended before anything was sent.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the answers to be read: the connection must be closed.
    pub(super) async fn exchange(
        &self,
        attempt: &TxAttempt<'_, SubPools<Native>>,
        enough: impl Future<Output = ()>,
        committing: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Answers, Failure> {
        let asking = self
            .question
            .map(|question| self.client.query_one(question, &[]));
        let mut asking = pin!(maybe_done(OptionFuture::from(asking)));
        let mut running = pin!(maybe_done(self.run()));
        let mut is_sent = false;
        let both = in_order(running.as_mut(), asking.as_mut(), committing, &mut is_sent);
        let waited = attempt.watch(async {
            tokio::select! {
                biased;
                () = both => {}
                () = enough => {}
            }
        });
        let waited = waited.await;
        let ran = running.as_mut().take_output();
        let asked = asking.as_mut().take_output().flatten();
        match waited {
            Ok(()) if is_sent => Ok(Answers::of(ran, asked, self.question.is_some())),
            Ok(()) => Ok(Answers::not_sent(ran)),
            Err(failure) if is_sent => {
                let answer = ran.and_then(Result::ok);
                Ok(Answers::Lost(answer, failure.error.into()))
            }
            Err(failure) => Err(failure),
        }
    }

    async fn run(&self) -> Ran {
        let values = self.parameters.iter().copied();
        let running = self.client.query_raw(self.statement, values);
        let mut answers = pin!(running.await?);
        let mut rows = Vec::new();
        while let Some(row) = answers.try_next().await? {
            rows.push(row);
        }
        let count = answers.rows_affected().unwrap_or_default();
        Ok(Answer { rows, count })
    }
}

/// What came of the statement and the question.
pub(super) enum Answers {
    Come(Answer, Option<Row>),
    /// The server refused one of them, so the transaction too; and whether the statement had run.
    Refused(tokio_postgres::Error, bool),
    NotSent(tokio_postgres::Error),
    /// No answer to one of them; perhaps there was one to the statement.
    Lost(Option<Answer>, BoxError),
}

type Ran = Result<Answer, tokio_postgres::Error>;
type Asked = Result<Row, tokio_postgres::Error>;

impl Answers {
    /// Of a statement that ended before the others were sent.
    fn not_sent(ran: Option<Ran>) -> Self {
        match ran {
            Some(Err(error)) if error.as_db_error().is_none() => Self::NotSent(error),
            ran => Self::of(ran, None, true),
        }
    }

    fn of(ran: Option<Ran>, asked: Option<Asked>, is_asked: bool) -> Self {
        match (ran, asked) {
            (Some(Err(error)), _) if error.as_db_error().is_some() => Self::Refused(error, false),
            (Some(Err(error)), _) => Self::Lost(None, error.into()),
            (Some(Ok(_)), Some(Err(error))) if error.as_db_error().is_some() => {
                Self::Refused(error, true)
            }
            (Some(Ok(answer)), Some(Err(error))) => Self::Lost(Some(answer), error.into()),
            (Some(Ok(answer)), Some(Ok(row))) => Self::Come(answer, Some(row)),
            (Some(Ok(answer)), None) if !is_asked => Self::Come(answer, None),
            (ran, _) => Self::Lost(ran.and_then(Result::ok), "not answered in time".into()),
        }
    }
}

/// Polls all three for the first time in this order, which sends them in this order, and then the
/// first two until they have ended. If the statement has failed before the others were sent, they
/// are not.
///
/// It may have succeeded by then: a thread that is put to sleep between sending and looking for
/// the answer finds it there.
async fn in_order<T, E>(
    mut running: Pin<&mut MaybeDone<impl Future<Output = Result<T, E>>>>,
    mut asking: Pin<&mut impl Future<Output = ()>>,
    mut committing: Pin<&mut impl Future<Output = ()>>,
    is_sent: &mut bool,
) {
    poll_fn(|cx| {
        let has_run = running.as_mut().poll(cx).is_ready();
        if !*is_sent && matches!(running.as_mut().output_mut(), Some(Err(_))) {
            return Poll::Ready(());
        }
        let has_answered = asking.as_mut().poll(cx).is_ready();
        if !*is_sent {
            // It is answered last, so it is asked again when the others have ended.
            let _ = committing.as_mut().poll(cx);
            *is_sent = true;
        }
        match has_run && has_answered {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::{
        cell::RefCell,
        future::{pending, ready},
    };

    use futures_util::FutureExt as _;

    use super::*;

    /// What is sent if the statement has this answer at once; and whether it says that all was.
    fn sent(answer: Option<Result<(), ()>>) -> (Vec<&'static str>, bool) {
        let sent = RefCell::new(Vec::new());
        let send = |what| sent.borrow_mut().push(what);
        let running = async {
            send("statement");
            match answer {
                Some(answer) => answer,
                None => pending().await,
            }
        };
        let asking = async {
            send("question");
            pending().await
        };
        let committing = async {
            send("commit");
            pending().await
        };
        let mut is_sent = false;
        let mut running = pin!(maybe_done(running));
        let ended = {
            let (asking, committing) = (pin!(asking), pin!(committing));
            in_order(running.as_mut(), asking, committing, &mut is_sent).now_or_never()
        };
        // Without the others there is nothing to wait for, and with them there is.
        assert_eq!(ended.is_some(), !is_sent);
        (sent.take(), is_sent)
    }

    #[test]
    fn all_go_out_in_order_also_behind_a_statement_that_was_answered_at_once() {
        let all = ["statement", "question", "commit"];
        assert_eq!(sent(None), (all.to_vec(), true));
        assert_eq!(sent(Some(Ok(()))), (all.to_vec(), true));
    }

    #[test]
    fn nothing_goes_out_behind_a_statement_that_failed_at_once() {
        assert_eq!(sent(Some(Err(()))), (vec!["statement"], false));
    }

    #[test]
    fn the_answers_of_all_end_the_wait() {
        let mut is_sent = false;
        let running = pin!(maybe_done(ready(Ok::<(), ()>(()))));
        let (asking, committing) = (pin!(ready(())), pin!(pending()));
        let ended = in_order(running, asking, committing, &mut is_sent).now_or_never();
        assert!(ended.is_some() && is_sent);
    }
}
