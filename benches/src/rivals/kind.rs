//! The list of rivals.

use deadpool_postgres::RecyclingMethod as Recycling;
use diesel_async::pooled_connection::RecyclingMethod as DieselRecycling;

use super::{
    Doing, Rival, bb8, deadpool, diesel, held::Held, leadpool, mobc, peer::Pooled, r2d2::Blocking,
    sketch::Sketch, sqlx,
};

/// Which pool.
///
/// A new one gets a module beside this one, with its `Peer`, a name here and a line in
/// [`open`](Self::open).
///
/// ```
/// use leadpool_benches::Kind;
///
/// assert_eq!(Kind::DeadpoolFast.name(), "deadpool-postgres Fast");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// No pool: open connections, in turn.
    Held,
    /// deadpool-postgres as it is by default: asks the server nothing at checkout.
    DeadpoolFast,
    /// deadpool-postgres that asks the server at each checkout.
    DeadpoolVerified,
    /// leadpool.
    Leadpool,
    /// leadpool, with transactions of one statement in one round trip.
    LeadpoolSingleShot,
    /// bb8-postgres as it is by default: asks the server at each checkout.
    Bb8,
    /// bb8-postgres, without its test.
    Bb8NoTest,
    /// mobc as it is by default: asks the server at each checkout.
    Mobc,
    /// mobc, without its test.
    MobcNoTest,
    /// sqlx as it is by default: asks the server at each checkout.
    Sqlx,
    /// sqlx, with `test_before_acquire(false)`.
    SqlxNoTest,
    /// leadpool-sqlx.
    LeadpoolSqlx,
    /// diesel-async's deadpool as it is by default: asks the server at each checkout.
    Diesel,
    /// The same with `RecyclingMethod::Fast`.
    DieselFast,
    /// leadpool-diesel.
    LeadpoolDiesel,
    /// r2d2 as it is by default, in threads: asks the server at each checkout.
    R2d2,
    /// r2d2, without its test.
    R2d2NoTest,
    /// No pool to be used, but what could stand in deadpool's place: whoever returns a connection
    /// hands it to the one who has waited longest.
    Sketch,
    /// The same, with waits that have no deadline.
    SketchNoDeadline,
}

impl Kind {
    /// All that are pools, bare deadpool-postgres first: the others are compared with it.
    pub const POOLS: [Self; 15] = [
        Self::DeadpoolFast,
        Self::Leadpool,
        Self::DeadpoolVerified,
        Self::Bb8,
        Self::Bb8NoTest,
        Self::Mobc,
        Self::MobcNoTest,
        Self::Sqlx,
        Self::SqlxNoTest,
        Self::LeadpoolSqlx,
        Self::Diesel,
        Self::DieselFast,
        Self::LeadpoolDiesel,
        Self::R2d2,
        Self::R2d2NoTest,
    ];

    /// What is no pool yet: it is shown beside them, and never judged.
    pub const SKETCHES: [Self; 2] = [Self::Sketch, Self::SketchNoDeadline];

    /// How results call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "no pool",
            Self::DeadpoolFast => "deadpool-postgres Fast",
            Self::DeadpoolVerified => "deadpool-postgres Verified",
            Self::Leadpool => "leadpool",
            Self::LeadpoolSingleShot => "leadpool, single shot",
            Self::Bb8 => "bb8",
            Self::Bb8NoTest => "bb8, no test",
            Self::Mobc => "mobc",
            Self::MobcNoTest => "mobc, no test",
            Self::Sqlx => "sqlx",
            Self::SqlxNoTest => "sqlx, no test",
            Self::LeadpoolSqlx => "leadpool-sqlx",
            Self::Diesel => "diesel-async",
            Self::DieselFast => "diesel-async Fast",
            Self::LeadpoolDiesel => "leadpool-diesel",
            Self::R2d2 => "r2d2",
            Self::R2d2NoTest => "r2d2, no test",
            Self::Sketch => "sketch",
            Self::SketchNoDeadline => "sketch, no deadline",
        }
    }

    /// Whether it is one of this project's.
    #[must_use]
    pub fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Leadpool | Self::LeadpoolSingleShot | Self::LeadpoolSqlx | Self::LeadpoolDiesel
        )
    }

    /// Whether its transactions may have more than one statement.
    #[must_use]
    pub fn takes_many(self) -> bool {
        self != Self::LeadpoolSingleShot
    }

    /// Makes a pool of this size, without connections where it lets that be chosen.
    ///
    /// In a box: what is behind it is compiled once, and not again with each bench.
    ///
    /// # Errors
    ///
    /// The URL can't be read, or the server can't be reached.
    #[must_use = "a future does nothing until it is awaited"]
    pub fn open(self, url: &str, size: usize) -> Doing<'_, Box<dyn Rival>> {
        Box::pin(async move {
            let rival: Box<dyn Rival> = match self {
                Self::Held => Box::new(Pooled(Held::open(url, size).await?)),
                Self::DeadpoolFast => Box::new(Pooled(deadpool::open(url, size, Recycling::Fast)?)),
                Self::DeadpoolVerified => {
                    Box::new(Pooled(deadpool::open(url, size, Recycling::Verified)?))
                }
                Self::Leadpool => Box::new(Pooled(leadpool::open(url, size).await?)),
                Self::LeadpoolSingleShot => {
                    Box::new(Pooled(leadpool::open_single_shot(url, size).await?))
                }
                Self::Bb8 => Box::new(Pooled(bb8::open(url, size, true)?)),
                Self::Bb8NoTest => Box::new(Pooled(bb8::open(url, size, false)?)),
                Self::Mobc => Box::new(Pooled(mobc::open(url, size, true)?)),
                Self::MobcNoTest => Box::new(Pooled(mobc::open(url, size, false)?)),
                Self::Sqlx => Box::new(Pooled(sqlx::open(url, size, true)?)),
                Self::SqlxNoTest => Box::new(Pooled(sqlx::open(url, size, false)?)),
                Self::LeadpoolSqlx => Box::new(Pooled(sqlx::open_leadpool(url, size).await?)),
                Self::Diesel => {
                    Box::new(Pooled(diesel::open(url, size, DieselRecycling::Verified)?))
                }
                Self::DieselFast => {
                    Box::new(Pooled(diesel::open(url, size, DieselRecycling::Fast)?))
                }
                Self::LeadpoolDiesel => Box::new(Pooled(diesel::open_leadpool(url, size).await?)),
                Self::R2d2 => Box::new(Blocking::open(url, size, true)?),
                Self::R2d2NoTest => Box::new(Blocking::open(url, size, false)?),
                Self::Sketch => Box::new(Pooled(Sketch::open(url, size, true).await?)),
                Self::SketchNoDeadline => Box::new(Pooled(Sketch::open(url, size, false).await?)),
            };
            Ok(rival)
        })
    }
}
