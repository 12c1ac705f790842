//! Reading one's own writes from standbys: what a read must have seen, and who has.
//!
//! A [`ConsistencyToken`] is a position in the write-ahead log, taken after a COMMIT: a standby
//! that has replayed it shows what was committed. Positions are bytes and say nothing of the
//! history that they belong to, so a token names its timeline as well. After a failover
//! [`standing()`] says what became of it.
//!
//! How to use it: [the manual](crate::manual::consistency).

mod keys;
mod served;
mod standing;
mod token;

pub use keys::{SigningKeys, TokenError, WeakKeys};
pub use served::{Served, ServedBy};
pub(crate) use standing::Place;
pub use standing::{Standing, Vantage, standing};
pub use token::{ConsistencyToken, InvalidToken};
