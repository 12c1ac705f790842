//! Every example, against a real cluster.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use leadpool_testkit::{Cluster, Moment, Trigger};
use tokio::process::Command;

async fn output(program: &str, arguments: &[&str], url: &str) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", url)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn each_does_what_it_says() {
    let cluster = Cluster::start().await.unwrap();
    let url = cluster.url();
    let printed = output(env!("CARGO_BIN_EXE_quickstart"), &[], &url).await;
    assert_eq!(printed, "order 1 is written\nread from a standby: true\n");
    let printed = output(env!("CARGO_BIN_EXE_drop_in"), &[], &url).await;
    assert_eq!(printed, "1 row written through deadpool's own type\n");
    let printed = output(env!("CARGO_BIN_EXE_errors"), &[], &url).await;
    assert_eq!(printed, "sold one\nsold one\nsold out\n");
    let printed = output(env!("CARGO_BIN_EXE_readers"), &[], &url).await;
    let expected = "reader 1: the first standby\nreader 2: the first standby\n\
                    reader 3: another\nreader 4: another\n";
    assert_eq!(printed, expected);
    let printed = output(env!("CARGO_BIN_EXE_watch"), &["1"], &url).await;
    assert_eq!(printed.matches("standby").count(), 2, "{printed}");
    assert_eq!(printed.matches("PoolCounts").count(), 3, "{printed}");
}

#[tokio::test]
async fn a_doubt_is_kept_and_cleared() {
    let cluster = Cluster::builder().proxies(true).start().await.unwrap();
    let url = cluster.proxied_url();
    let program = env!("CARGO_BIN_EXE_outcome");
    assert_eq!(output(program, &["setup"], &url).await, "");
    assert_eq!(output(program, &[], &url).await, "written\n");
    for (moment, expected) in [
        (Moment::BeforeAnswer, "it was written\n"),
        (Moment::BeforeForward, "it was not, and will not be\n"),
    ] {
        let proxy = cluster.proxy(0).unwrap();
        proxy.cut_at(Trigger::new("COMMIT", moment));
        let printed = output(program, &[], &url).await;
        let evidence = printed.strip_prefix("in doubt: ").unwrap().trim_end();
        let printed = output(program, &[evidence], &url).await;
        assert_eq!(printed, expected, "{moment:?}");
    }
}
