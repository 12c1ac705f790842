//! Code that takes `&deadpool_postgres::Pool` follows the writer without a change.

use std::env;

/// Written long before leadpool, perhaps in a crate that you can't change.
async fn save(
    pool: &deadpool_postgres::Pool,
    note: &str,
) -> Result<u64, deadpool_postgres::PoolError> {
    let mut client = pool.get().await?;
    let tx = client.transaction().await?;
    let written = tx
        .execute("INSERT INTO notes (note) VALUES ($1)", &[&note])
        .await?;
    tx.commit().await?;
    Ok(written)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = leadpool::Pool::connect(&env::var("DATABASE_URL")?).await?;

    // A real pool of deadpool's own type: only its construction is new.
    let deadpool: deadpool_postgres::Pool = pool.deadpool_pool();
    deadpool
        .get()
        .await?
        .batch_execute("CREATE TABLE IF NOT EXISTS notes (note text)")
        .await?;
    println!(
        "{} row written through deadpool's own type",
        save(&deadpool, "it follows").await?
    );
    Ok(())
}
