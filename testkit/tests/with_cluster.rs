//! The program that runs another while there is a cluster.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_leadpool-with-cluster"))
        .args(arguments)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn the_program_finds_the_primary_and_all_hosts() {
    let script = "echo $DATABASE_URL $CLUSTER_URL";
    let output = run(&["--standbys", "1", "sh", "-c", script]);
    let text = told(&output);
    let words: Vec<_> = text.split_whitespace().collect();
    assert!(output.status.success(), "{text}");
    let hosts = |url: &str| url.matches("127.0.0.1:").count();
    assert_eq!((hosts(words[0]), hosts(words[1])), (1, 2), "{text}");
    // They ended with it.
    let config: tokio_postgres::Config = words[0].parse().unwrap();
    assert!(config.connect(tokio_postgres::NoTls).await.is_err());
}

#[test]
fn it_ends_as_the_program_ends() {
    let output = run(&["--standbys", "0", "sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{output:?}");
}

#[test]
fn what_it_cannot_do_it_says() {
    for (arguments, expected) in [
        (&[][..], "usage"),
        (&["--standbys", "few", "true"], "usage"),
        (&["--standbys", "0", "no-such-program"], "no-such-program"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(125), "{arguments:?}");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
}
