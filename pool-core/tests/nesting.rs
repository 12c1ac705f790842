//! How deep an application may nest its functions around a transaction.
//!
//! Whether a future is `Send` the compiler finds out by looking at all that it holds, up to 128
//! levels deep, the pool's own among them. This file does not compile if those leave too few to an
//! application, whose web framework and layers need some too.

use leadpool::{Error, Pool, consistency::ConsistencyToken};

macro_rules! nested {
    ($call:expr; $($level:ident)*) => {
        // Each function waits for the one before it.
        nested!(@ $call; $($level)*);
    };
    (@ $call:expr; $first:ident $($level:ident)*) => {
        async fn $first(pool: Pool) -> Result<(), Error> {
            $call(pool).await
        }
        nested!(@ $first; $($level)*);
    };
    (@ $call:expr;) => {
        fn outermost() -> impl Fn(Pool) -> std::pin::Pin<Box<dyn Future<Output = Result<(), Error>> + Send>> {
            |pool| Box::pin($call(pool))
        }
    };
}

async fn transaction(pool: Pool) -> Result<(), Error> {
    pool.run_tx(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    })
    .await
}

async fn at_once(pool: Pool) -> Result<(), Error> {
    pool.execute_tx("INSERT INTO t (n) VALUES (1)", &[]).await?;
    Ok(())
}

async fn with_token(pool: Pool) -> Result<(), Error> {
    let insert = pool.tx().run_with_token(|tx| async move {
        tx.execute("INSERT INTO t (n) VALUES (1)", &[]).await?;
        Ok(())
    });
    let ((), token): ((), ConsistencyToken) = insert.await?;
    drop(pool.reader_at(&token).await?);
    Ok(())
}

mod around_a_transaction {
    use super::*;
    nested!(transaction; a b c d e f g h i j k l m n o p q r s t);

    #[test]
    fn compiles() {
        let _ = outermost();
    }
}

mod around_one_statement {
    use super::*;
    nested!(at_once; a b c d e f g h i j k l m n o p q r s t);

    #[test]
    fn compiles() {
        let _ = outermost();
    }
}

mod around_a_token {
    use super::*;
    nested!(with_token; a b c d e f g h i j k l m n o p q r s t);

    #[test]
    fn compiles() {
        let _ = outermost();
    }
}
