//! An error type of your own, transaction options, and what to do when COMMIT was never answered.

use std::{env, time::Duration};

use leadpool::{Error, IsolationLevel, Pool};

#[derive(Debug, thiserror::Error)]
enum ShopError {
    #[error("sold out")]
    SoldOut,
    #[error(transparent)]
    Pool(#[from] Error),
    // The driver's error stays visible as the source: from it the pool sees what to repeat.
    #[error("database")]
    Database(#[from] tokio_postgres::Error),
}

async fn sell(pool: &Pool) -> Result<(), ShopError> {
    pool.tx()
        .isolation(IsolationLevel::Serializable)
        .deadline(Duration::from_secs(5))
        .on_retry(|retry| eprintln!("again after attempt {}: {}", retry.attempt, retry.error))
        .try_run(|tx| async move {
            match tx
                .execute("UPDATE stock SET n = n - 1 WHERE n > 0", &[])
                .await?
            {
                0 => Err(ShopError::SoldOut),
                _ => Ok(()),
            }
        })
        .await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::connect(&env::var("DATABASE_URL")?).await?;
    pool.get()
        .await?
        .batch_execute(
            "CREATE TABLE IF NOT EXISTS stock (n int); DELETE FROM stock; INSERT INTO stock VALUES (2)",
        )
        .await?;
    for _ in 0..3 {
        match sell(&pool).await {
            Ok(()) => println!("sold one"),
            Err(ShopError::SoldOut) => println!("sold out"),
            // COMMIT was sent, and the connection broke before the answer: look for the effect
            // before you repeat it.
            Err(ShopError::Pool(Error::Unknown(in_doubt))) => println!("perhaps sold: {in_doubt}"),
            // Nothing was committed.
            Err(error) => println!("not sold: {error}"),
        }
    }
    Ok(())
}
