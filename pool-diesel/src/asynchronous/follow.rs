//! A real pool of diesel-async's that follows the writer.

use deadpool::Runtime;
use diesel::ConnectionResult;
use diesel_async::pooled_connection::deadpool::{Hook, HookError, Pool};
use leadpool::{Cluster, Target, adapter::SubPools};

use super::{
    AsyncPgConnection,
    driver::{DieselAsync, manager, manager_config, stamp},
    opening::{open, take_over},
    recycle,
};

/// Makes a pool for code that insists on the type. Objects of a former writer are dropped when
/// they are about to be handed out again.
pub(super) fn pool(cluster: &Cluster) -> Pool<AsyncPgConnection> {
    let pools = SubPools::new(cluster, DieselAsync::default());
    let settings = cluster.config().pool();
    let (size, timeout) = (settings.writer_size, settings.checkout_timeout);
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
    let opening_pools = pools.clone();
    let mut config = manager_config();
    config.custom_setup = Box::new(move |_| {
        let pools = opening_pools.clone();
        Box::pin(async move {
            let mut opened = connect(&pools).await?;
            // Nobody asks for it here; the instrumentation is the application's again.
            drop(take_over(&mut opened));
            Ok(opened)
        })
    });
    let mut builder = Pool::builder(manager(config));
    if let Some(clean) = recycle::hook(cluster.config()) {
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

/// Opens a connection to whoever is the writer at that moment; waits while there is none. What is
/// known of it has to be taken over.
pub(super) async fn connect(pools: &SubPools<DieselAsync>) -> ConnectionResult<AsyncPgConnection> {
    loop {
        let generation = pools.wait_for_generation(Target::Primary).await;
        pools.note_outside();
        match open(&generation).await {
            Ok(opened) if !generation.is_retired() => return Ok(opened),
            // The writer has changed meanwhile: the next one, please.
            Ok(_) => {}
            Err(_) if generation.is_retired() => {}
            Err(error) => return Err(error),
        }
    }
}
