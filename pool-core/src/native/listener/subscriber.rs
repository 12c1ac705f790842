//! The task of a listener: it holds the connection, and finds another one when it is lost.

use std::{future::poll_fn, pin::pin, sync::Arc, task::Poll, time::Duration};

use backon::{BackoffBuilder as _, ExponentialBuilder};
use tokio::{
    sync::watch,
    time::{error::Elapsed, sleep, timeout},
};
use tokio_postgres::{AsyncMessage, Error, error::SqlState};

use super::{Failure, Gap, ListenerEvent, Notification, Shared};
use crate::{
    connect::Wire,
    error::{BoxError, ConnectError, Disposition, TxPhase},
    failover::Report,
    native::{
        Native,
        connect::{Established, establish},
    },
    observe::rows,
    pool::{Driver as _, Generation, SubPools},
    topology::{HostAddr, Target},
};

/// The pauses between attempts on a host that lives but takes no subscription.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

pub(super) struct Subscriber {
    pools: Arc<SubPools<Native>>,
    shared: Arc<Shared>,
    wanted: watch::Receiver<Vec<String>>,
    in_force: watch::Sender<Vec<String>>,
    /// Where the channels were last subscribed.
    last: Option<HostAddr>,
}

/// Why a connection is of no more use.
enum Ended {
    /// Its host was invalidated.
    Retired,
    /// Nobody wants it any more.
    Unwanted,
    /// No connection could be opened.
    Refused(Error),
    /// A statement failed.
    Failed(Error),
    /// A statement was not answered in time.
    Silent,
    /// It was closed.
    Lost,
}

impl From<Elapsed> for Ended {
    fn from(_: Elapsed) -> Self {
        Self::Silent
    }
}

impl Subscriber {
    pub(super) fn new(
        pools: Arc<SubPools<Native>>,
        shared: Arc<Shared>,
        wanted: watch::Receiver<Vec<String>>,
        in_force: watch::Sender<Vec<String>>,
    ) -> Self {
        Self {
            pools,
            shared,
            wanted,
            in_force,
            last: None,
        }
    }

    pub(super) async fn run(mut self) {
        let _at_the_end = CloseQueue(self.shared.clone());
        let pools = self.pools.clone();
        tokio::select! {
            biased;
            () = pools.closed() => {}
            () = self.follow() => {}
        }
    }

    /// Follows the writer from host to host.
    async fn follow(&mut self) {
        let mut waits = pauses();
        loop {
            if self
                .wanted
                .wait_for(|wanted| !wanted.is_empty())
                .await
                .is_err()
            {
                return;
            }
            let generation = self.pools.wait_for_generation(Target::Primary).await;
            let ended = tokio::select! {
                biased;
                () = generation.retired() => Ended::Retired,
                ended = self.serve(&generation) => ended,
            };
            if !self.in_force.send_replace(Vec::new()).is_empty() {
                waits = pauses();
            }
            match ended {
                Ended::Retired => continue,
                Ended::Unwanted => return,
                ended => self.failed(&generation, ended),
            }
            let pause = waits.next().unwrap_or(LONGEST_PAUSE);
            tokio::select! {
                biased;
                () = generation.retired() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Tells the monitor, and who waits in `listen`.
    fn failed(&self, generation: &Generation, ended: Ended) {
        let host = generation.host();
        let report = match &ended {
            Ended::Refused(_) => Report::ConnectFailed,
            Ended::Failed(error) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => {
                Report::RoleChanged
            }
            Ended::Silent => Report::Slow,
            _ => Report::ConnectionLost,
        };
        generation.report(report);
        let pool = generation.meters().pool();
        let mut code = None;
        if let Ended::Refused(error) | Ended::Failed(error) = &ended {
            code = error.code().cloned();
        }
        let (source, is_curable): (BoxError, _) = match ended {
            Ended::Refused(error) if Native::is_curable(&error) => {
                let noted = generation.take_failure();
                (noted.unwrap_or_else(|| Box::new(error)), true)
            }
            Ended::Refused(error) => (Box::new(error), false),
            Ended::Failed(error) => {
                let disposition = Disposition::of_driver(&error, TxPhase::Open);
                (Box::new(error), disposition != Disposition::Fail)
            }
            _ => {
                tracing::event!(
                    name: rows::LISTENER_LOST.name,
                    target: rows::LISTENER_LOST.target,
                    rows::LISTENER_LOST.level,
                    {
                        db.client.connection.pool.name = pool,
                        server.address = host.name(),
                        server.port = host.port(),
                    },
                    "a listener's connection was lost"
                );
                return;
            }
        };
        tracing::event!(
            name: rows::NOT_SUBSCRIBED.name,
            target: rows::NOT_SUBSCRIBED.target,
            rows::NOT_SUBSCRIBED.level,
            {
                db.client.connection.pool.name = pool,
                server.address = host.name(),
                server.port = host.port(),
                leadpool.curable = is_curable,
                db.response.status_code = code.as_ref().map(SqlState::code),
            },
            "a listener could not subscribe"
        );
        self.shared.note(Failure {
            error: ConnectError {
                host: host.clone(),
                source,
            },
            is_curable,
        });
        // Wakes who waits in `listen`.
        self.in_force.send_modify(|_| {});
    }

    /// Subscribes on one connection, and stays for as long as it lasts.
    async fn serve(&mut self, generation: &Generation) -> Ended {
        let (client, connection) = match establish(generation, None).await {
            Ok(Established {
                client, connection, ..
            }) => (client, connection),
            Err(_) if generation.is_retired() => return Ended::Retired,
            Err(error) => return Ended::Refused(error),
        };
        let from = self.last.clone();
        let mut line = Line {
            connection,
            sink: Sink {
                shared: self.shared.clone(),
                host: generation.host().clone(),
                from,
            },
        };
        let limit = generation.config().pool().connect_timeout;
        let mut subscribed = Vec::new();
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            if let Some(sql) = difference(&subscribed, &wanted) {
                let answer = line.answer(client.batch_execute(&sql));
                match timeout(limit, answer).await {
                    Ok(Ok(())) => {}
                    Ok(Err(ended)) => return ended,
                    Err(elapsed) => return elapsed.into(),
                }
                line.sink.is_subscribed();
                self.last = Some(generation.host().clone());
                subscribed = wanted;
                self.in_force.send_replace(subscribed.clone());
            }
            tokio::select! {
                changed = self.wanted.changed() => if changed.is_err() {
                    return Ended::Unwanted;
                },
                ended = line.ended() => return ended,
            }
        }
    }
}

/// The connection, and where what it brings goes.
struct Line {
    connection: Wire,
    sink: Sink,
}

impl Line {
    /// Drives the connection until the request is answered.
    async fn answer(
        &mut self,
        request: impl Future<Output = Result<(), Error>>,
    ) -> Result<(), Ended> {
        let mut request = pin!(request);
        poll_fn(|cx| {
            // Before the connection, which sends what the request puts into it.
            if let Poll::Ready(done) = request.as_mut().poll(cx) {
                return Poll::Ready(done.map_err(Ended::Failed));
            }
            let ended = self.poll(cx);
            match (request.as_mut().poll(cx), ended) {
                (Poll::Ready(done), _) => Poll::Ready(done.map_err(Ended::Failed)),
                (Poll::Pending, Poll::Ready(ended)) => Poll::Ready(Err(ended)),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            }
        })
        .await
    }

    /// Drives the connection until it ends.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost when the future is dropped.
    async fn ended(&mut self) -> Ended {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Ended> {
        loop {
            match self.connection.poll_message(cx) {
                Poll::Ready(Some(Ok(AsyncMessage::Notification(notification)))) => {
                    self.sink.take(&notification);
                }
                // A notice, which is of no interest.
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(Ended::Lost),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

struct Sink {
    shared: Arc<Shared>,
    host: HostAddr,
    /// Where the channels were subscribed before, until the gap has been told.
    from: Option<HostAddr>,
}

impl Sink {
    fn take(&mut self, notification: &tokio_postgres::Notification) {
        // It may come before the answer to LISTEN.
        self.is_subscribed();
        let event = ListenerEvent::Notification(Notification {
            channel: notification.channel().to_owned(),
            payload: notification.payload().to_owned(),
            process_id: notification.process_id(),
            host: self.host.clone(),
        });
        self.shared.queue.push(event);
    }

    /// Tells of the gap, once.
    fn is_subscribed(&mut self) {
        if let Some(from) = self.from.take() {
            let to = self.host.clone();
            let gap = Gap::Reconnected { from, to };
            self.shared.queue.push(ListenerEvent::Gap(gap));
        }
    }
}

/// What leads from the one list of channels to the other; `None` if they are the same.
fn difference(from: &[String], to: &[String]) -> Option<String> {
    let quoted = |name: &String| format!("\"{}\"", name.replace('"', "\"\""));
    let gone = from.iter().filter(|name| !to.contains(name));
    let new = to.iter().filter(|name| !from.contains(name));
    let sql: Vec<_> = gone
        .map(|name| format!("UNLISTEN {}", quoted(name)))
        .chain(new.map(|name| format!("LISTEN {}", quoted(name))))
        .collect();
    (!sql.is_empty()).then(|| sql.join(";"))
}

fn pauses() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::default()
        .with_min_delay(FIRST_PAUSE)
        .with_max_delay(LONGEST_PAUSE)
        .with_jitter()
        .without_max_times()
        .build()
        .map(|pause| pause.min(LONGEST_PAUSE))
}

/// Ends the reader's wait, also when the task is aborted or panics.
struct CloseQueue(Arc<Shared>);

impl Drop for CloseQueue {
    fn drop(&mut self) {
        self.0.queue.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_sent_and_names_are_quoted() {
        let list = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let sql = |from: &[&str], to: &[&str]| difference(&list(from), &list(to));
        assert_eq!(sql(&["a"], &["a"]), None);
        assert_eq!(
            sql(&["a", "b"], &["b", "C\"d"]).unwrap(),
            "UNLISTEN \"a\";LISTEN \"C\"\"d\""
        );
    }
}
