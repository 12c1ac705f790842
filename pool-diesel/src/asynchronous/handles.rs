//! Handles of one pool: whom they ask for.

use leadpool::Target;

use super::Pool;

impl Pool {
    /// The same pool as a handle for what only reads: standbys serve it, by the configured
    /// strategy, and the writer while there is none.
    #[must_use]
    pub fn reader(&self) -> Self {
        self.targeting(Target::PreferStandby)
    }

    /// The same pool as a handle that the writer serves.
    #[must_use]
    pub fn writer(&self) -> Self {
        self.targeting(Target::Primary)
    }

    /// The same pool as a handle that hosts serve which are usable as `target` asks.
    #[must_use]
    pub fn targeting(&self, target: Target) -> Self {
        Self {
            target,
            token: None,
            ..self.clone()
        }
    }

    /// What this handle asks for.
    #[must_use]
    pub fn target(&self) -> Target {
        self.target
    }

    /// Whether it is a handle for standbys, on which nothing can be written.
    pub(super) fn only_reads(&self) -> bool {
        matches!(self.target, Target::Standby | Target::PreferStandby)
    }
}
