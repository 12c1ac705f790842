//! Waiting for conditions.

use std::time::{Duration, Instant};

use crate::Error;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// How often a condition is looked at.
pub(crate) const POLL: Duration = Duration::from_millis(5);

/// Waits for a condition; `late` says what it means that it has not come about.
pub(crate) async fn until<Fut>(
    limit: Duration,
    mut holds: impl FnMut() -> Fut,
    late: impl FnOnce(Duration) -> Error,
) -> Result<(), Error>
where
    Fut: Future<Output = Result<bool, Error>>,
{
    let begun = Instant::now();
    while !holds().await? {
        if begun.elapsed() > limit {
            return Err(late(begun.elapsed()));
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}
