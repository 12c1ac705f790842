//! Finding PostgreSQL, or installing it.

use std::process::Command;

use leadpool_testkit::PgInstall;

use crate::Result;

/// Finds PostgreSQL. If there is none, says so and installs it through the system's package
/// manager.
pub(crate) fn find_or_install() -> Result<PgInstall> {
    let missing = match PgInstall::find() {
        Ok(install) => return Ok(install),
        Err(error) => error,
    };
    let Some(commands) = PgInstall::install_command() else {
        return Err(missing.into());
    };
    eprintln!("No PostgreSQL server was found. Installing it with the package manager:");
    for argv in &commands {
        eprintln!("  {}", argv.join(" "));
    }
    for argv in &commands {
        let status = Command::new(&argv[0])
            .args(&argv[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(std::process::Stdio::null())
            .status();
        if !status.is_ok_and(|status| status.success()) {
            return Err(format!("`{}` failed. {missing}", argv.join(" ")).into());
        }
    }
    Ok(PgInstall::find()?)
}
