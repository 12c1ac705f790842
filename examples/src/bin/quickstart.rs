//! A pool, a transaction that survives a failover, a read from a standby.

use std::env;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // All hosts in one URL. Who of them is the primary is found out, now and after each failover.
    let pool = leadpool::Pool::connect(&env::var("DATABASE_URL")?).await?;

    // The writer. The object is deadpool-postgres' own `Client`.
    let client = pool.get().await?;
    client
        .batch_execute("CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, item text)")
        .await?;
    drop(client);

    // Repeated when a failover gets in the way, committed once.
    let item = "tea";
    let id: i64 = pool
        .run_tx(|tx| async move {
            let insert = tx
                .prepare_cached("INSERT INTO orders (item) VALUES ($1) RETURNING id")
                .await?;
            Ok(tx.query_one(&insert, &[&item]).await?.get(0))
        })
        .await?;
    println!("order {id} is written");

    // A standby; the writer while no standby is usable. It may lag behind.
    let reader = pool.reader().await?;
    let row = reader.query_one("SELECT pg_is_in_recovery()", &[]).await?;
    println!("read from a standby: {}", row.get::<_, bool>(0));
    Ok(())
}
