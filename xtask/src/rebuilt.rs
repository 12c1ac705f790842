//! The same command once more, by a build that has what most builds do without.

use std::{ffi::OsString, os::unix::process::CommandExt as _};

use crate::{Result, cargo};

/// Hands the arguments to a build with the feature, in place of this process: so an interrupt
/// reaches nobody else.
pub(crate) fn run(
    feature: &str,
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> Result<()> {
    hand_over(&["--features", feature], arguments, variables)
}

/// The same, with an optimised build.
#[cfg(not(feature = "exercises"))]
pub(crate) fn run_optimised(
    feature: &str,
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> Result<()> {
    hand_over(&["--release", "--features", feature], arguments, variables)
}

fn hand_over(
    options: &[&str],
    arguments: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> Result<()> {
    let variables = variables.into_iter();
    let error = cargo::command()
        .args(["run", "--quiet", "--package", "xtask"])
        .args(options)
        .args([
            "--manifest-path",
            concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"),
        ])
        .arg("--")
        .args(arguments)
        .envs(variables.map(|(name, value)| (name.into(), value.into())))
        .exec();
    Err(format!("cargo could not be run: {error}").into())
}
