//! Settings from files, from the environment, and from other pools' configurations.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod documents;
mod environment;
mod other_pools;
