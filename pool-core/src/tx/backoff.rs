//! The pauses of the crate `backoff`.

use std::time::Duration;

use backoff::backoff::Backoff;

/// The pauses of a policy of the crate `backoff` 0.4, for [`TxBuilder::backoff`](crate::TxBuilder::backoff).
///
/// They end where the policy ends: its own longest time counts as well as the transaction's
/// deadline.
///
/// ```no_run
/// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
/// use backoff::ExponentialBackoff;
///
/// pool.tx()
///     .backoff(|| leadpool::backoff_pauses(ExponentialBackoff::default()))
///     .run(|tx| async move { tx.execute("UPDATE jobs SET done = true", &[]).await?; Ok(()) })
///     .await?;
/// # Ok(())
/// # }
/// ```
pub fn backoff_pauses<B: Backoff>(mut policy: B) -> impl Iterator<Item = Duration> + use<B> {
    policy.reset();
    std::iter::from_fn(move || policy.next_backoff())
}

#[cfg(test)]
mod tests {
    use backoff::backoff::{Constant, Stop};

    use super::*;

    #[test]
    fn a_policys_pauses_in_its_order() {
        let second = Duration::from_secs(1);
        let pauses: Vec<_> = backoff_pauses(Constant::new(second)).take(2).collect();
        assert_eq!(pauses, [second, second]);
        assert_eq!(backoff_pauses(Stop {}).next(), None);
    }
}
