//! `cargo xtask test`: all that must hold before a change is merged.

use std::{path::Path, time::Instant};

use leadpool_testkit::Libpq;
use tempfile::TempDir;

use crate::{Result, cargo, postgres, scratch};

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
    // All features: those that libpq is linked for, too.
    let libpq = postgres::find_or_install_libpq()?;
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
        // Each feature of leadpool-diesel builds alone.
        &["clippy", "-p", "leadpool-diesel", "--", "-D", "warnings"],
        &[
            "clippy",
            "-p",
            "leadpool-diesel",
            "--no-default-features",
            "--features",
            "blocking",
            "--",
            "-D",
            "warnings",
        ],
        // And the web crates without any.
        &[
            "clippy",
            "-p",
            "leadpool-axum",
            "-p",
            "leadpool-actix",
            "--",
            "-D",
            "warnings",
        ],
        // Features only add.
        &["doc", "-p", "leadpool", "--no-deps"],
    ];
    // With the examples in the documentation in one go: alone, they would have much of it built
    // once more. Without the benches, which are linted above: each is a program of its own.
    let tests = ["test", "--workspace", "--all-features"];
    if !args.tests_only {
        for check in checks {
            run_cargo(check, &libpq, None)?;
        }
    }
    let scratch = scratch::in_memory();
    run_cargo(&tests, &libpq, scratch.as_ref().map(TempDir::path))
}

fn run_cargo(args: &[&str], libpq: &Libpq, scratch: Option<&Path>) -> Result<()> {
    println!("\n$ cargo {}", args.join(" "));
    let begun = Instant::now();
    let status = cargo::command()
        .args(args)
        .env("RUSTDOCFLAGS", "-D warnings")
        .envs(libpq.variable())
        .envs(scratch.map(|dir| ("TMPDIR", dir)))
        .status()?;
    if !status.success() {
        return Err(format!("`cargo {}` failed", args.join(" ")).into());
    }
    println!("took {:.0?}", begun.elapsed());
    Ok(())
}
