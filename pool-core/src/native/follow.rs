//! A real `deadpool_postgres::Pool` that follows the writer.

use std::sync::Arc;

use deadpool_postgres::{Connect, Hook, HookError, Manager, Pool, Runtime};
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio_postgres::{Client, Config, Error};

use super::{
    Native, connect,
    driver::{manager_config, stamp},
    recycle,
    refusal::Refusal,
};
use crate::{error::HookFailed, pool::SubPools, topology::Target};

/// Opens connections to whoever is the writer at that moment; waits while there is none.
struct FollowWriter {
    pools: Arc<SubPools<Native>>,
}

impl Connect for FollowWriter {
    fn connect(&self, _: &Config) -> BoxFuture<'_, Result<(Client, JoinHandle<()>), Error>> {
        Box::pin(async {
            loop {
                let generation = self.pools.wait_for_generation(Target::Primary).await;
                self.pools.cluster().note_use();
                match connect::open(&generation, None).await {
                    Ok(opened) if !generation.is_retired() => return Ok(opened),
                    // The writer has changed meanwhile: the next one, please.
                    Ok((_, task)) => task.abort(),
                    Err(_) if generation.is_retired() => {}
                    Err(error) => return Err(in_drivers_words(error)),
                }
            }
        })
    }
}

/// The driver's own error alone, where that is what made a hook fail.
fn in_drivers_words(error: Error) -> Error {
    match Refusal::of_driver(&error) {
        Some(Refusal::Hook(failed)) if failed.source.is::<Error>() => {}
        _ => return error,
    }
    let failed = Refusal::unwrap_source(error).downcast::<HookFailed>();
    let source = failed.map(|failed| failed.source.downcast::<Error>());
    match source {
        Ok(Ok(error)) => *error,
        // It has just been looked at.
        _ => Error::__private_api_timeout(),
    }
}

/// Makes a pool for code that insists on the type. Objects of a former writer are dropped when
/// they are about to be handed out again.
pub(super) fn pool(pools: Arc<SubPools<Native>>) -> Pool {
    let config = pools.cluster().config();
    let settings = config.pool();
    let clean = recycle::hook(config, None);
    let (size, timeout) = (settings.writer_size, settings.checkout_timeout);
    // The driver wants one; `FollowWriter` uses another.
    let any = Config::new();
    let hook_pools = pools.clone();
    let of_this_writer = Hook::sync_fn(move |_, metrics| {
        hook_pools.note_outside();
        if !hook_pools.is_of_this_writer(metrics.created) {
            Err(HookError::message("opened under a former writer"))
        } else if hook_pools.is_paused() {
            // A new one waits for the end of the pause.
            Err(HookError::message("paused"))
        } else if hook_pools.is_too_old(&stamp(metrics)) {
            Err(HookError::message("open for too long"))
        } else {
            Ok(())
        }
    });
    let connect = FollowWriter {
        pools: pools.clone(),
    };
    let manager = Manager::from_connect(any, connect, manager_config());
    let mut builder = Pool::builder(manager);
    if let Some(clean) = clean {
        builder = builder.post_recycle(clean);
    }
    let pool = builder
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(timeout))
        .create_timeout(Some(timeout))
        .pre_recycle(of_this_writer)
        .build()
        .expect("invariant: building fails only for timeouts without a runtime, one is set");
    let outside = pool.weak();
    pools.set_outside(move || {
        let status = outside.upgrade().map(|pool| pool.status());
        status.is_some_and(|status| status.available < status.size || status.waiting > 0)
    });
    pool
}
