//! Which closures `run_tx` takes, and what the compiler says about the others.
//!
//! `TRYBUILD=overwrite cargo test -p leadpool --test closures` rewrites the expected messages.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[path = "closures/accepted.rs"]
mod accepted;

/// Compilers differ in how they print the same message.
const MESSAGES_OF: &str = "rustc 1.95.";

#[test]
fn the_compiler_says_what_to_do() {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .unwrap()
        .stdout;
    if version.starts_with(MESSAGES_OF.as_bytes()) {
        trybuild::TestCases::new().compile_fail("tests/closures/refused/*.rs");
    }
}
