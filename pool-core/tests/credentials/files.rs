//! Passwords of the configuration, of files, and of the environment.

use std::process::Command;

use leadpool::{
    Config, Error, Pool,
    credentials::{Environment, PasswordFile},
};

use crate::support::*;

#[tokio::test]
async fn by_scram_by_md5_and_in_the_clear() {
    let servers = start(0).await;
    for role in ["scram", "hash", "clear"] {
        let pool = connect(&servers, &format!("{role}:first"), |c| c).await;
        let pool = pool.unwrap();
        assert_eq!(who(&pool.get().await.unwrap()).await, role);

        let wrong = connect(&servers, &format!("{role}:hunter2"), |c| c).await;
        let text = chain(&wrong.unwrap_err());
        assert!(text.contains("28P01"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[tokio::test]
async fn without_a_password_a_host_that_asks_is_named() {
    let servers = start(0).await;
    // Not the file of whoever runs the test.
    let empty = File::new("");
    let pool = connect(&servers, "scram", |c| c.passfile(empty.path())).await;
    let text = chain(&pool.unwrap_err());
    assert!(text.contains("it asks for a password"), "{text}");
    assert!(
        text.contains(&servers.addr(0).unwrap().to_string()),
        "{text}"
    );
}

#[tokio::test]
async fn a_password_file_has_a_line_for_each_host() {
    let servers = start(1).await;
    let port = |host| servers.addr(host).unwrap().port();
    let lines = format!(
        "# shop\n127.0.0.1:{}:*:scram:first\n*:{}:*:scram:hunter2\n",
        port(0),
        port(1)
    );
    let file = File::new(&lines);
    let pool = connect(&servers, "scram", |c| c.passfile(file.path()));
    let pool = pool.await.unwrap();
    assert_eq!(who(&pool.get().await.unwrap()).await, "scram");
    soon("the standby's refusal", async {
        loop {
            let topology = pool.cluster().topology();
            if topology.hosts()[1].describe().contains("28P01") {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;

    // It is read anew, by the probes too.
    file.write(&lines.replace("hunter2", "first"));
    let reader = soon("the standby", async {
        loop {
            if let Ok(reader) = pool.reader().await {
                let row = reader.query_one("SELECT inet_server_port()", &[]).await;
                if row.unwrap().get::<_, i32>(0) == i32::from(port(1)) {
                    break reader;
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    });
    assert_eq!(who(&reader.await).await, "scram");
}

#[tokio::test]
async fn a_named_password_file_that_others_may_read_is_an_error() {
    let servers = start(0).await;
    let file = File::new("*:*:*:*:first");
    file.allow(0o644);
    let pool = connect(&servers, "scram", |c| c.passfile(file.path())).await;
    let text = chain(&pool.unwrap_err());
    assert!(
        text.contains("`passfile`") && text.contains("0644"),
        "{text}"
    );
    assert!(text.contains(&file.path().display().to_string()), "{text}");
}

#[tokio::test]
async fn a_password_in_the_string_goes_before_a_password_file() {
    let servers = start(0).await;
    let file = File::new("*:*:*:*:hunter2");
    let pool = connect(&servers, "scram:first", |c| c.passfile(file.path())).await;
    assert_eq!(who(&pool.unwrap().get().await.unwrap()).await, "scram");
}

#[test]
fn a_provider_beside_a_password_is_a_contradiction() {
    for (text, key) in [
        ("postgres://app:hunter2@db1/shop", "password"),
        ("postgres://app@db1/shop?passfile=/x", "passfile"),
    ] {
        let config = Config::builder(text).credentials(PasswordFile::new("/y"));
        let error = config.build().unwrap_err();
        assert_eq!(error.key(), key);
        let text = format!("{error} {error:?}");
        assert!(
            text.contains("credentials") && !text.contains("hunter2"),
            "{text}"
        );
    }
}

/// What the environment must say can't be set in a test's own process.
const CHILD: &str = "LEADPOOL_TEST_CHILD";

/// Runs in a process of its own, on behalf of the tests below.
#[tokio::test]
async fn child() {
    let Ok(url) = std::env::var(CHILD) else {
        return;
    };
    let config = Config::builder(&url).startup_timeout(std::time::Duration::from_secs(1));
    let config = match std::env::var_os("SHOP_DB_PASSWORD") {
        Some(_) => config.credentials(Environment::new("SHOP_DB_PASSWORD")),
        None => config,
    };
    let cluster = match leadpool::Cluster::connect(config.build().unwrap()).await {
        Ok(cluster) => cluster,
        Err(error) => return println!("refused: {error}"),
    };
    let pool = Pool::new(&cluster);
    let client = pool.get().await.unwrap();
    println!("logged in as {}", who(&client).await);
}

async fn run(url: &str, environment: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "files::child", "--nocapture"])
        .env_remove("PGPASSWORD")
        .env_remove("PGPASSFILE")
        .env("HOME", "/nonexistent")
        .env(CHILD, url)
        .envs(environment.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_environment_says_what_libpq_would_find_there() {
    let servers = start(0).await;
    let home = std::env::temp_dir().join(format!("leadpool-home-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let named = File::new("*:*:*:*:first\n");
    let wrong = File::new("*:*:*:*:wrong\n");
    let open = File::new("*:*:*:*:first\n");
    open.allow(0o644);
    std::fs::copy(named.path(), home.join(".pgpass")).unwrap();
    let path = |file: &File| file.path().to_str().unwrap().to_owned();
    let (named, wrong, open) = (path(&named), path(&wrong), path(&open));
    let home_text = home.to_str().unwrap();
    let in_ = "logged in as scram";
    for (environment, says) in [
        (vec![], "it asks for a password"),
        (vec![("PGPASSWORD", "first")], in_),
        (
            vec![("PGPASSWORD", "wrong"), ("PGPASSFILE", &*named)],
            "28P01",
        ),
        (vec![("PGPASSWORD", ""), ("PGPASSFILE", &*named)], in_),
        (vec![("PGPASSFILE", &*named)], in_),
        (vec![("HOME", home_text)], in_),
        (vec![("HOME", home_text), ("PGPASSFILE", &*wrong)], "28P01"),
        // Ignored with a warning.
        (vec![("PGPASSFILE", &*open)], "it asks for a password"),
        (vec![("SHOP_DB_PASSWORD", "first")], in_),
        (vec![("SHOP_DB_PASSWORD", "wrong")], "28P01"),
        (
            vec![("SHOP_DB_PASSWORD", "")],
            "`SHOP_DB_PASSWORD` is empty",
        ),
    ] {
        let said = run(&url(&servers, "scram"), &environment).await;
        assert!(said.contains(says), "{environment:?}: {said}");
    }
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn a_variable_that_is_missing_is_named() {
    let servers = start(0).await;
    let provider = Environment::new("LEADPOOL_TEST_NO_SUCH_VARIABLE");
    let pool = connect(&servers, "scram", |c| c.credentials(provider)).await;
    let error = pool.unwrap_err();
    assert!(matches!(error, Error::NoHost(_)));
    let text = chain(&error);
    assert!(
        text.contains("`LEADPOOL_TEST_NO_SUCH_VARIABLE` is not set"),
        "{text}"
    );
}
