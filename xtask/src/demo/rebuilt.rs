//! The demo once more, by a build of it that has what most builds do without.

use std::{env, os::unix::process::CommandExt as _, process::Command};

use crate::{Result, postgres};

/// Hands the same arguments to a build with the feature, in place of this process: so an interrupt
/// reaches nobody else.
pub(super) fn run(feature: &str) -> Result<()> {
    let libpq = postgres::find_or_install_libpq()?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("Building the demo with libpq.");
    let error = Command::new(cargo)
        .args([
            "run",
            "--quiet",
            "--package",
            "xtask",
            "--features",
            feature,
        ])
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .arg("--")
        .args(env::args_os().skip(1))
        .envs(libpq.variable())
        .exec();
    Err(format!("cargo could not be run: {error}").into())
}
