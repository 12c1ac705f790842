//! What happens around the attempts: a connection to the writer of now for each, and an end.

use std::{
    convert::Infallible,
    future::pending,
    panic::resume_unwind,
    sync::{
        Arc,
        mpsc::{self, Sender},
    },
    time::Duration,
};

use diesel::migration::MigrationVersion;
use leadpool::{
    adapter::{Budget, Generation},
    failover::Report,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until, timeout_at},
};

use super::{
    MigrationDeadline, MigrationError, MigrationPhase,
    work::{Applied, Failure, Progress, Work, lock},
};

/// How long to wait for a look at the host before the next attempt.
const LOOK: Duration = Duration::from_millis(250);
/// How often it begins again, at most; waiting for a writer is part of one checkout.
const REPEATS: u32 = 5;
/// For limits that no clock can hold.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// Who has connections, and threads that may block.
pub(crate) trait Site: Sync {
    type Conn: Send;
    /// Ends the connection when it is dropped, if the attempt has not parted with it.
    type Hold: Send;

    /// A connection to the writer.
    fn checkout(
        &self,
    ) -> impl Future<Output = Result<(Self::Conn, Arc<Generation>), leadpool::Error>> + Send;

    /// Has the work done in a thread.
    fn begin(&self, conn: Self::Conn, work: Work) -> Self::Hold;

    fn budget(&self) -> &Budget;
}

/// Runs migrations, in as many attempts as it takes; says which it has applied.
///
/// # Cancel safety
///
/// Dropping the future ends the connection.
pub(crate) async fn drive(
    site: impl Site,
    limit: Duration,
) -> Result<Vec<MigrationVersion<'static>>, MigrationError> {
    let deadline = Instant::now() + limit.min(NEVER);
    let too_late = |host, phase| {
        let what = MigrationDeadline { limit, host, phase };
        Err(MigrationError::Deadline(Box::new(what)))
    };
    let mut applied = Applied::default();
    let mut lost = None;
    let mut repeats = 0;
    loop {
        let (conn, generation) = match timeout_at(deadline, site.checkout()).await {
            Ok(got) => got?,
            Err(_) => return too_late(None, MigrationPhase::Writer),
        };
        let progress = Progress::new(lost, applied);
        let (stay, leave) = mpsc::channel();
        let (reply, answer) = oneshot::channel();
        let hold = site.begin(
            conn,
            Work {
                generation: generation.clone(),
                progress: progress.clone(),
                leave,
                reply,
            },
        );
        // A host that is given up takes its connections with it, and so what is in flight ends.
        let ended = tokio::select! {
            biased;
            ended = answer => ended.map_err(|_| ()),
            () = sleep_until(deadline) => {
                let phase = lock(&progress).phase.clone();
                return too_late(Some(generation.host().clone()), phase);
            }
            never = tell_to_leave(&generation, stay) => match never {},
        };
        drop(hold);
        let failure = match ended {
            Ok(Ok(())) => {
                let versions = std::mem::take(&mut lock(&progress).applied.versions);
                return Ok(versions.into_iter().map(MigrationVersion::from).collect());
            }
            Ok(Err(failure)) => failure,
            // The runtime ends, and has begun no thread.
            Err(()) => return Err(MigrationError::Pool(leadpool::Error::Closed)),
        };
        let (source, again) = match failure {
            Failure::Told(error) => return Err(error),
            Failure::Panicked(panic) => resume_unwind(panic),
            Failure::Lost(source) => {
                look(&generation, Report::ConnectionLost).await;
                (source, true)
            }
            Failure::Refused(source) => {
                look(&generation, Report::WriteRefused).await;
                let again = generation.is_retired() || !generation.is_writer();
                (source, again)
            }
        };
        repeats += 1;
        if !again || repeats > REPEATS || !site.budget().withdraw() {
            return Err(MigrationError::Failed {
                phase: lock(&progress).phase.clone(),
                host: generation.host().clone(),
                source,
            });
        }
        let progress = lock(&progress);
        lost = progress.session;
        applied = progress.applied.clone();
    }
}

/// When the host is handed out no more: who waits there for the lock waits in vain.
async fn tell_to_leave(generation: &Generation, stay: Sender<()>) -> Infallible {
    generation.retired().await;
    // Or it has ended.
    let _ = stay.send(());
    pending().await
}

/// Has a host looked at, unless it has been judged already.
async fn look(generation: &Generation, report: Report) {
    tokio::select! {
        biased;
        () = generation.retired() => {}
        () = generation.verify(report, LOOK) => {}
    }
}
