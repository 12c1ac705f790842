//! For authors of adapters: what a pool for another driver is made of.
//!
//! An application needs nothing of this; `leadpool-sqlx` is built on it. It may change with each
//! minor version of leadpool, so an adapter should name the version exactly.
//!
//! # A pool
//!
//! - Implement [`Driver`] for the driver's own pool of one host. Each is opened for a
//!   [`Generation`] of its host, and is closed when that generation ends.
//! - [`SubPools`] keeps one for each host of a [`Cluster`](crate::Cluster), in step with the
//!   topology, and [checks out](SubPools::checkout) of the right one; for a read with a token, of
//!   one that [has what it stands for](SubPools::checkout_at). Where connections have no [`Stamp`],
//!   [`Generation::note_opened`] is called for each.
//! - What a driver sees goes back by [`Generation::report`]; what hangs on a generation ends when
//!   it is [retired](Generation::retired) (handed out no more) or
//!   [aborted](Generation::aborted) (ends now).
//! - [`Login`] says how a host is logged in to, [`encryption`] with which TLS, [`demands`] what
//!   else a driver has to keep to, [`recycling_sql`] how a used connection is cleaned.
//! - A driver on top of tokio-postgres has its connections opened by leadpool, with all of that:
//!   [`Connection::open`]. What such a driver does not pass on is in [`Answers`].
//! - Of a driver that gives nobody its sockets, a [`Socket`] is found all the same, on Linux.
//!
//! # Transactions
//!
//! - [`Transactions`] has the retry loop, over a closure that makes one attempt, with [`Options`]
//!   (the macro `leadpool::tx_setters` gives a builder the setters) and a [`Budget`] for the whole
//!   pool.
//! - [`TxAttempt`] is the part of an attempt that is the same for all drivers: the checkout, what
//!   ends the closure, what a failure asks for, and what becomes of COMMIT. The adapter sends
//!   [`Options::begin_sql`], [`QUESTION`] and [`TxAttempt::commit_sql`] through its driver, and
//!   says with [`Commit`] how that ended.
//! - [`Options::ask_for_token`] has a read that should see the transaction told where it is.
//! - [`Resolver`] finds out what became of a COMMIT that was not answered. It asks through
//!   connections of leadpool's own, so that the questions exist once; it
//!   [listens](Resolver::listener) over such connections too.
//! - A driver's errors become [`DriverError`](crate::error::DriverError)s.

mod connection;
mod evidence;
mod login;
mod resolver;
mod socket;
#[macro_use]
mod setters;

pub use connection::{ConnectFailed, Connection, canceller};
pub use evidence::{CommitSql, NOT_OURS, QUESTION};
pub use login::{
    Encryption, Login, demands, encryption, has_connect_hooks, is_rejection, recycling_sql,
};
pub use resolver::Resolver;
pub use socket::Socket;

pub use crate::{
    connect::Answers,
    pool::{Driver, Generation, GetError, Missed, Purpose, Stamp, SubPools, pause_after},
    tx::{
        Attempt, Budget, Commit, Failure, IsolationLevel, Options, Resolve, Resolved, Retry, SIGN,
        TokenSlot, Transactions, Try, TxAttempt, Unresolved,
    },
};
