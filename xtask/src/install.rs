//! `cargo xtask install`: failover managers and a name server, for the tests that use them.

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

fn stacks() -> [Stack; 4] {
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
    ]
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
