//! What a closure needs to be run more than once.

/// A closure that can be run more than once: one clone an attempt.
///
/// It is implemented for everything that is `Clone`; it exists to make the compiler's message
/// helpful when a closure is not.
///
/// ```
/// fn takes(_: impl leadpool::Replay) {}
/// let name = String::from("by value");
/// takes(move || name.len());
/// ```
#[diagnostic::on_unimplemented(
    message = "this closure may run more than once (a failover repeats it), so what it captures must be `Clone`",
    label = "captures something that is not `Clone`",
    note = "capture by shared reference, in an `Arc`, or clone inside; count attempts with an atomic or with `on_retry`"
)]
pub trait Replay: Clone {}

#[diagnostic::do_not_recommend]
impl<F: Clone> Replay for F {}
