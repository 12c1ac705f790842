//! A service that ends in good order when it is told to: SIGTERM, or Ctrl-C.

use std::{env, time::Duration};

use leadpool::{Error, Pool, shutdown};
use tokio::task::JoinSet;

/// Takes orders until the pool takes no more.
async fn serve(pool: Pool) -> Result<(), Error> {
    loop {
        let order = pool.run_tx(|tx| async move {
            let insert = "INSERT INTO orders DEFAULT VALUES RETURNING id";
            let row = tx.query_one(insert, &[]).await?;
            Ok(row.get::<_, i64>(0))
        });
        match order.await {
            Ok(id) => println!("order {id}"),
            Err(Error::Closed) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pool = Pool::connect(&env::var("DATABASE_URL")?).await?;
    let table = "CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY)";
    pool.get().await?.batch_execute(table).await?;

    let mut services = JoinSet::new();
    for _ in 0..4 {
        services.spawn(serve(pool.clone()));
    }
    let drained = shutdown::on_signal(&pool, Duration::from_secs(10)).await?;
    while let Some(ended) = services.join_next().await {
        ended??;
    }
    println!("ended, {} connections aborted", drained.aborted);
    Ok(())
}
