//! Passwords that change while connections are in use.

use std::sync::{Arc, Mutex};

use futures_util::future::join_all;
use leadpool::credentials::{CredentialRequest, Credentials, PasswordFile, Secret, from_fn};

use crate::support::*;

#[tokio::test]
async fn a_file_rotates_under_connections_in_use() {
    let servers = start(1).await;
    let file = File::new("first\n");
    let pool = connect(&servers, "scram", |c| {
        c.credentials(PasswordFile::new(file.path())).writer_size(8)
    });
    let pool = pool.await.unwrap();
    let mut held = pool.get().await.unwrap();
    let tx = held.transaction().await.unwrap();
    tx.execute("SET LOCAL work_mem = '1MB'", &[]).await.unwrap();

    for password in ["second", "third"] {
        sql(&servers, &format!("ALTER ROLE scram PASSWORD '{password}'")).await;
        file.write(&format!("{password}\n"));
        let opened = join_all((0..3).map(|_| pool.get())).await;
        for client in opened {
            let client = client.unwrap();
            assert_eq!(who(&client).await, "scram");
            // The next round opens others.
            drop(deadpool_postgres::Object::take(client));
        }
    }
    let row = tx.query_one("SHOW work_mem", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "1MB");
    tx.commit().await.unwrap();
}

/// Keeps what it knows until that is refused, and writes down what it is asked.
#[derive(Clone, Default)]
struct Vault {
    current: Arc<Mutex<String>>,
    known: Arc<Mutex<Option<String>>>,
    refused: Arc<Mutex<Vec<Secret>>>,
}

impl Vault {
    fn answer(&self, request: &CredentialRequest) -> Credentials {
        let mut known = self.known.lock().unwrap();
        let refused = request.rejected.clone().and_then(|old| old.password);
        if let Some(old) = refused {
            if known.as_deref() == Some(old.expose()) {
                *known = None;
            }
            self.refused.lock().unwrap().push(old);
        }
        let known = known.get_or_insert_with(|| self.current.lock().unwrap().clone());
        Credentials::password(known.clone())
    }
}

#[tokio::test]
async fn after_a_refusal_the_closure_is_asked_once_more() {
    let servers = start(0).await;
    let vault = Vault::default();
    *vault.current.lock().unwrap() = "first".to_owned();
    let asked = vault.clone();
    let pool = connect(&servers, "scram", |c| {
        c.credentials(from_fn(move |request| {
            let answer = asked.answer(&request);
            async move { Ok(answer) }
        }))
    });
    let pool = pool.await.unwrap();
    let held = pool.get().await.unwrap();
    assert!(vault.refused.lock().unwrap().is_empty());

    sql(&servers, "ALTER ROLE scram PASSWORD 'second'").await;
    *vault.current.lock().unwrap() = "second".to_owned();
    let other = pool.get().await.unwrap();
    assert_eq!(who(&other).await, "scram");
    assert_eq!(*vault.refused.lock().unwrap(), [Secret::new("first")]);

    let third = pool.get().await.unwrap();
    assert_eq!(who(&third).await, "scram");
    assert_eq!(vault.refused.lock().unwrap().len(), 1);
    assert_eq!(who(&held).await, "scram");
}

#[tokio::test]
async fn a_password_that_nobody_has_fails_the_checkout_at_once() {
    let servers = start(0).await;
    let file = File::new("first");
    let pool = connect(&servers, "scram", |c| {
        c.credentials(PasswordFile::new(file.path()))
    });
    let pool = pool.await.unwrap();
    let held = pool.get().await.unwrap();
    sql(&servers, "ALTER ROLE scram PASSWORD 'other'").await;
    let error = soon("the refusal", pool.get()).await.unwrap_err();
    assert!(matches!(error, leadpool::Error::Connect(_)), "{error:?}");
    assert_eq!(error.sqlstate(), Some("28P01"));
    assert_eq!(who(&held).await, "scram");
}
