//! `cargo xtask install`: failover managers, a name server and a browser, for the tests that use them.

use std::process::{Command, Stdio};

use leadpool_testkit::{AutoFailover, NameServer, PatroniCluster, Repmgr};

use crate::{Result, postgres};

/// Name, whether it is there, and how to install it.
type Stack = (&'static str, Option<String>, Option<Vec<Vec<String>>>);

pub(crate) fn run() -> Result<()> {
    postgres::find_or_install()?;
    let mut failed = Vec::new();
    for (name, missing, commands) in stacks() {
        let (Some(missing), Some(commands)) = (missing, commands) else {
            continue;
        };
        println!("{name}: {missing}");
        if let Err(error) = install(&commands) {
            failed.push(format!("{name}: {error}"));
        }
    }
    for (name, missing, _) in stacks() {
        match missing {
            None => println!("{name}: found"),
            Some(missing) => println!("{name}: its tests will be skipped: {missing}"),
        }
    }
    match failed.is_empty() {
        true => Ok(()),
        false => Err(failed.join("; ").into()),
    }
}

fn stacks() -> [Stack; 5] {
    let missing = |found: std::result::Result<(), leadpool_testkit::Error>| {
        found.err().map(|error| error.to_string())
    };
    [
        (
            "Patroni and etcd",
            missing(PatroniCluster::available().map(drop)),
            PatroniCluster::install_command(),
        ),
        (
            "pg_auto_failover",
            missing(AutoFailover::available()),
            AutoFailover::install_command(),
        ),
        (
            "repmgr",
            missing(Repmgr::available()),
            Repmgr::install_command(),
        ),
        (
            "dnsmasq",
            missing(NameServer::available()),
            NameServer::install_command(),
        ),
        ("Chromium", browser(), browser_command()),
    ]
}

/// What looks at the dashboard.
fn browser() -> Option<String> {
    let version = Command::new("chromedriver")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    let error = version.err()?;
    Some(format!("chromedriver: {error}"))
}

/// Debian's packages.
fn browser_command() -> Option<Vec<Vec<String>>> {
    let install = "apt-get install -y --no-install-recommends chromium chromium-driver";
    let commands = ["apt-get update -q", install];
    let is_there = Command::new("apt-get")
        .arg("--version")
        .stdout(Stdio::null())
        .status();
    is_there.ok()?;
    let words = |command: &str| command.split(' ').map(str::to_owned).collect();
    Some(commands.map(words).to_vec())
}

fn install(commands: &[Vec<String>]) -> Result<()> {
    for argv in commands {
        println!("  {}", argv.join(" "));
        let done = Command::new(&argv[0])
            .args(&argv[1..])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(Stdio::null())
            .status()?;
        if !done.success() {
            return Err(format!("`{}` failed", argv.join(" ")).into());
        }
    }
    Ok(())
}
