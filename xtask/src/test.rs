//! `cargo xtask test`: all that must hold before a change is merged.

use std::{process::Command, time::Instant};

use crate::{Result, postgres};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Skip formatting, lints and documentation, and run the tests alone.
    #[arg(long)]
    tests_only: bool,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let install = postgres::find_or_install()?;
    println!(
        "PostgreSQL {} in {}",
        install.major(),
        install.bin_dir().display()
    );
    let checks: &[&[&str]] = &[
        &["fmt", "--all", "--check"],
        &[
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ],
        &[
            "doc",
            "--workspace",
            "--no-deps",
            "--all-features",
            "--document-private-items",
        ],
        // Features only add.
        &["doc", "-p", "leadpool", "--no-deps"],
    ];
    let tests: &[&[&str]] = &[
        &["test", "--workspace", "--all-targets", "--all-features"],
        &["test", "--workspace", "--doc", "--all-features"],
    ];
    if !args.tests_only {
        for check in checks {
            cargo(check)?;
        }
    }
    for test in tests {
        cargo(test)?;
    }
    Ok(())
}

fn cargo(args: &[&str]) -> Result<()> {
    println!("\n$ cargo {}", args.join(" "));
    let begun = Instant::now();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(args)
        .env("RUSTDOCFLAGS", "-D warnings")
        .status()?;
    if !status.success() {
        return Err(format!("`cargo {}` failed", args.join(" ")).into());
    }
    println!("took {:.0?}", begun.elapsed());
    Ok(())
}
