//! What became of a COMMIT that was never answered: the evidence, and what may be concluded.
//!
//! A transaction that writes leaves a marker in the write-ahead log before COMMIT is sent, and
//! its id. After a loss the primary is asked for the status of that id. The answer alone is not
//! to be trusted: a history that lost the transaction hands its id out again, and then tells the
//! status of another one. The marker's position decides which history the answer is about.

mod evidence;
mod history;
mod rule;
mod token;

pub use evidence::{Evidence, Incarnation, InvalidEvidence};
pub use history::History;
pub use rule::{Doubt, Outcome, Proof, Status, Testimony, Verdict, judge};
pub use token::{InvalidTokenTable, TokenTable};
