//! The pools that are measured, each as its users write to it.
//!
//! All get the same size and otherwise their defaults, except where a name says something else.
//! Those that keep no prepared statements prepare each once a connection.

mod bb8;
mod deadpool;
mod diesel;
mod held;
mod kind;
mod leadpool;
mod mobc;
mod peer;
mod prepared;
mod r2d2;
mod sketch;
mod sqlx;

use std::{pin::Pin, time::Duration};

pub use self::kind::Kind;

/// Whatever went wrong: a bench fails by it.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// What a rival has been asked to do.
pub type Doing<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The statement of one insert, in a table that [`Ground`](crate::Ground) has made.
const INSERT: &str = "INSERT INTO t (n) VALUES ($1)";
const SELECT_ONE: &str = "SELECT 1";

/// What a task does with a connection before it gives it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hold {
    /// One prepared `SELECT 1`.
    Statement,
    /// Lets others run once.
    Yield,
}

/// What tasks that contend for a pool have seen.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Contention {
    /// How long each of a task's checkouts took in ns, of each task.
    pub waits: Vec<Vec<u64>>,
    /// From the first checkout to the last return.
    pub took: Duration,
}

/// A pool that is measured. Each method does much at once, so that the call itself does not count.
pub trait Rival: Send + Sync {
    /// So many times a checkout and a return, one after the other.
    fn checkouts(&self, times: u32) -> Doing<'_>;
    /// Tasks that each check out, ask a prepared `SELECT 1`, and return, so many times.
    fn select_ones(&self, tasks: usize, each: u32) -> Doing<'_>;
    /// Tasks that each run so many transactions of so many prepared inserts.
    fn transactions(&self, tasks: usize, each: u32, inserts: u32) -> Doing<'_>;
    /// Tasks that check out, hold and return, for so long.
    fn contend(&self, tasks: usize, hold: Hold, lasts: Duration) -> Doing<'_, Contention>;
    /// Opens so many connections, and returns them.
    fn open(&self, connections: usize) -> Doing<'_>;
    /// Tasks that all come at once and ask `SELECT 1`: when each of them was served.
    fn burst(&self, tasks: usize) -> Doing<'_, Vec<Duration>>;
}
