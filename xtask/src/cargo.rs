//! Cargo, called from a program that cargo has started.

use std::{env, process::Command};

/// What `cargo run` tells a program of its own package
/// ([The Cargo Book](https://doc.rust-lang.org/cargo/reference/environment-variables.html)).
const OF_PACKAGE: [&str; 2] = ["CARGO_MANIFEST_", "CARGO_PKG_"];

/// As if it were called by hand. Build scripts look at what is told of the package, ring's does: with
/// that of another one much is built anew, and once more when somebody calls cargo by hand.
pub(crate) fn command() -> Command {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    for (name, _) in env::vars_os() {
        let of_package = name.to_str().is_some_and(is_of_package);
        if of_package {
            command.env_remove(name);
        }
    }
    command
}

fn is_of_package(name: &str) -> bool {
    OF_PACKAGE.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_told_of_this_package() {
        // Cargo tells a test as much as a program.
        assert!(env::var_os("CARGO_PKG_NAME").is_some());
        let command = command();
        let removed: Vec<_> = command.get_envs().map(|(name, _)| name).collect();
        for name in [
            "CARGO_PKG_NAME",
            "CARGO_MANIFEST_DIR",
            "CARGO_PKG_VERSION_PRE",
        ] {
            assert!(removed.iter().any(|removed| *removed == name), "{name}");
        }
        assert!(!removed.iter().any(|removed| *removed == "CARGO_HOME"));
    }
}
