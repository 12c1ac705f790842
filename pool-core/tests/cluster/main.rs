//! The pool on real servers.

mod failover;
mod support;
