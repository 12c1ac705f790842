//! An error type that leadpool's own can't be made from: that is what `try_run_tx` is for.

async fn read(pool: &leadpool::Pool) -> Result<u32, leadpool::Error> {
    pool.run_tx(|_tx| async move {
        let n = "12".parse::<u32>()?;
        Ok(n)
    })
    .await
}

fn main() {
    let _ = read;
}
