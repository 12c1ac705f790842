//! A transaction is not `Clone`: two of one connection would be one too many.

async fn twice(pool: &leadpool::Pool) -> Result<(), leadpool::Error> {
    pool.run_tx(|tx| async move {
        let other = tx.clone();
        drop(other);
        drop(tx);
        Ok(())
    })
    .await
}

fn main() {
    let _ = twice;
}
