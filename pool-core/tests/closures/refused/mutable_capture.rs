//! A closure that counts in a variable of its own.

async fn count(pool: &leadpool::Pool) -> Result<u32, leadpool::Error> {
    let mut attempts = 0;
    pool.run_tx(|tx| {
        attempts += 1;
        async move {
            tx.execute("SELECT 1", &[]).await?;
            Ok(())
        }
    })
    .await?;
    Ok(attempts)
}

fn main() {
    let _ = count;
}
