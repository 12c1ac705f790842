//! How often, how long, and in which order the rivals have their turns.

use std::{
    env,
    time::{Duration, Instant},
};

use crate::{
    is_bench,
    rivals::{Doing, Error},
};

/// Set, it makes all of them short: to see that they work, not to publish.
const QUICK: &str = "LEADPOOL_BENCH_QUICK";
/// Another number of rounds.
const ROUNDS: &str = "LEADPOOL_BENCH_ROUNDS";

/// Whether the figures only have to be there, not to be good.
#[must_use]
pub fn is_quick() -> bool {
    env::var_os(QUICK).is_some()
}

/// How many rounds count: one where it only has to work.
///
/// # Errors
///
/// `LEADPOOL_BENCH_ROUNDS` is no positive number.
pub fn rounds() -> Result<usize, Error> {
    if !is_bench() {
        return Ok(1);
    }
    match env::var(ROUNDS) {
        Ok(rounds) => match rounds.parse() {
            Ok(rounds) if rounds > 0 => Ok(rounds),
            _ => Err(format!("{ROUNDS}: `{rounds}` is no positive number").into()),
        },
        Err(_) if is_quick() => Ok(3),
        Err(_) => Ok(11),
    }
}

/// How long a rival works in one turn.
#[must_use]
pub fn lasts() -> Duration {
    Duration::from_millis(match (is_bench(), is_quick()) {
        (false, _) => 1,
        (true, true) => 60,
        (true, false) => 150,
    })
}

/// The turn of one rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Slot {
    /// Whose turn it is.
    pub rival: usize,
    /// Whether it counts: the first round finds everything cold.
    pub counts: bool,
}

/// The turns of so many rivals in so many rounds and one before them. In each round everybody has
/// one; who begins changes, and in every other round they go backwards, so that nobody always comes
/// behind the same.
///
/// ```
/// use leadpool_benches::slots;
///
/// let order: Vec<usize> = slots(3, 2).map(|slot| slot.rival).collect();
/// assert_eq!(order, [2, 1, 0, 0, 1, 2, 0, 2, 1]);
/// assert!(!slots(3, 2).take(3).any(|slot| slot.counts));
/// assert!(slots(3, 2).skip(3).all(|slot| slot.counts));
/// ```
pub fn slots(rivals: usize, rounds: usize) -> impl Iterator<Item = Slot> {
    (0..=rounds).flat_map(move |round| {
        (0..rivals).map(move |at| Slot {
            rival: match round % 2 {
                0 => (round / 2 + rivals - 1 - at) % rivals,
                // The first that counts goes in the order in which they are shown.
                _ => (round / 2 + at) % rivals,
            },
            counts: round > 0,
        })
    })
}

/// Does something again and again for about so long; how long one of them takes, in seconds.
///
/// # Errors
///
/// What the work says.
pub async fn each<'a>(
    lasts: Duration,
    work: impl Fn(u32) -> Doing<'a> + Send + Sync,
) -> Result<f64, Error> {
    let (mut done, mut next) = (0_u32, 1_u32);
    let begun = Instant::now();
    loop {
        work(next).await?;
        done += next;
        let took = begun.elapsed();
        let one = took.as_secs_f64() / f64::from(done);
        if took >= lasts {
            return Ok(one);
        }
        let left = (lasts - took).as_secs_f64() / one.max(1e-9);
        // The first ones tell little.
        next = (left as u32).clamp(1, done * 4);
    }
}
