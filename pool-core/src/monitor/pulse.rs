//! What is noted of a host's life besides its answers to probes.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something has come from a host since the monitor last looked. Whoever drives a
/// connection to it notes it, at the cost of reading one word.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    has_beaten: AtomicBool,
}

impl Pulse {
    /// Something came that only a living server sends.
    pub(crate) fn beat(&self) {
        // Read first: the word stays in every core's cache while nobody looks.
        if !self.has_beaten.load(Ordering::Relaxed) {
            self.has_beaten.store(true, Ordering::Relaxed);
        }
    }

    /// Whether something has come since this was last asked.
    pub(super) fn take(&self) -> bool {
        self.has_beaten.swap(false, Ordering::Relaxed)
    }
}
