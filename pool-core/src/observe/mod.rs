//! What the application can watch.

mod events;

pub use events::Events;
