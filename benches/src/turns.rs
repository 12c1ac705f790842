//! Rivals that are measured in turns.

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

/// How often each rival has its turn.
const TURNS: usize = 2_000;
/// How often it does in one turn what is measured.
const EACH: u32 = 500;

/// Whether it is measured: run as a test, a bench only looks whether it works.
#[must_use]
pub fn is_bench() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// What a rival does in its turn: the same, so often.
pub type Turn<'a> = Box<dyn Fn(u32) -> Pin<Box<dyn Future<Output = ()> + 'a>> + 'a>;

/// A turn that says itself how long it took: without what it has to put in order afterwards.
pub type TimedTurn<'a> = Box<dyn Fn(u32) -> Pin<Box<dyn Future<Output = Duration> + 'a>> + 'a>;

/// Measures all of them in turns, so that what else the machine does meets all: what is left is the
/// difference. Prints the median time of each, and the median of its ratios to the first.
///
/// ```
/// use leadpool_benches::in_turns;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// in_turns(
///     "addition",
///     vec![("nothing", Box::new(|_| Box::pin(async {})))],
/// )
/// .await;
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn in_turns(what: &str, rivals: Vec<(&str, Turn<'_>)>) {
    let turns = if is_bench() { TURNS } else { 1 };
    let mut times = vec![Vec::with_capacity(turns); rivals.len()];
    for _ in 0..turns {
        for (times, (_, turn)) in times.iter_mut().zip(&rivals) {
            let begun = Instant::now();
            turn(EACH).await;
            times.push(begun.elapsed());
        }
    }
    print(what, rivals.iter().map(|(name, _)| *name), &times, EACH);
}

/// The same for what takes longer or needs to be put in order between the turns: so many turns, in
/// each of which it is done `each` times. Every other time they have their turns in reverse, so
/// that none always comes behind the same. One turn before them is not counted.
///
/// ```
/// use std::time::Duration;
/// use leadpool_benches::in_timed_turns;
///
/// # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
/// in_timed_turns(
///     "rest",
///     10,
///     1,
///     &[("a while", Box::new(|_| Box::pin(async { Duration::from_secs(1) })))],
/// )
/// .await;
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn in_timed_turns(what: &str, turns: usize, each: u32, rivals: &[(&str, TimedTurn<'_>)]) {
    let turns = if is_bench() { turns } else { 1 };
    let mut times = vec![Vec::with_capacity(turns); rivals.len()];
    let mut order: Vec<usize> = (0..rivals.len()).collect();
    for number in 0..=turns {
        for rival in &order {
            let took = (rivals[*rival].1)(each).await;
            if number > 0 {
                times[*rival].push(took);
            }
        }
        order.reverse();
    }
    print(what, rivals.iter().map(|(name, _)| *name), &times, each);
}

fn print<'a>(what: &str, names: impl Iterator<Item = &'a str>, times: &[Vec<Duration>], each: u32) {
    for (of_rival, name) in times.iter().zip(names) {
        let ratios = of_rival
            .iter()
            .zip(&times[0])
            .map(|(own, first)| own.as_secs_f64() / first.as_secs_f64());
        let nanoseconds =
            median(of_rival.iter().map(Duration::as_secs_f64)) * 1e9 / f64::from(each);
        let ratio = median(ratios);
        println!("{what} in turns, median: {name} {nanoseconds:.1} ns, {ratio:.3} times the first");
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
