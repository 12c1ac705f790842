//! Finding PostgreSQL and libpq, or installing them.

use std::process::{Command, Stdio};

use leadpool_testkit::{Libpq, PgInstall};

use crate::Result;

/// Finds PostgreSQL. If there is none, says so and installs it through the system's package
/// manager.
pub(crate) fn find_or_install() -> Result<PgInstall> {
    or_install(
        "No PostgreSQL server was found.",
        PgInstall::find,
        PgInstall::install_command(),
    )
}

/// The same for libpq, which what speaks to servers through it is built with.
pub(crate) fn find_or_install_libpq() -> Result<Libpq> {
    or_install(
        "No libpq to build with was found.",
        Libpq::find,
        Libpq::install_command(),
    )
}

fn or_install<T>(
    what: &str,
    find: fn() -> std::result::Result<T, leadpool_testkit::Error>,
    commands: Option<Vec<Vec<String>>>,
) -> Result<T> {
    let missing = match find() {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    let Some(commands) = commands else {
        return Err(missing.into());
    };
    eprintln!("{what} Installing it with the package manager:");
    for argv in &commands {
        eprintln!("  {}", argv.join(" "));
    }
    for argv in &commands {
        let status = Command::new(&argv[0])
            .args(&argv[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status();
        if !status.is_ok_and(|status| status.success()) {
            return Err(format!("`{}` failed. {missing}", argv.join(" ")).into());
        }
    }
    Ok(find()?)
}
