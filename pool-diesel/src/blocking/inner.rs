//! What the pools for synchronous and for asynchronous code have in common.

use std::{sync::Arc, time::Duration};

use leadpool::{
    Cluster, Target,
    adapter::{Purpose, Resolver, SubPools, Transactions},
    consistency::{ConsistencyToken, Served},
};

use super::{Builder, Error, PooledConnection, driver::Libpq, login::check};

/// What a handle asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    /// A host that is usable so.
    Host(Target),
    /// One that shows what the token stands for.
    Seen(ConsistencyToken),
}

impl Wish {
    pub(super) fn target(self) -> Target {
        match self {
            Self::Host(target) => target,
            Self::Seen(_) => Target::PreferStandby,
        }
    }

    pub(super) fn token(self) -> Option<ConsistencyToken> {
        match self {
            Self::Host(_) => None,
            Self::Seen(token) => Some(token),
        }
    }
}

pub(super) struct Inner {
    pub(super) sub_pools: Arc<SubPools<Libpq>>,
    pub(super) resolver: Resolver,
    pub(super) transactions: Transactions,
    /// How long a checkout may take.
    pub(super) timeout: Duration,
    /// Whether connections to readers refuse what writes.
    refuses_writes: bool,
    /// Whether the monitor is this pool's own.
    owns_cluster: bool,
}

impl Inner {
    /// Must be called in a runtime.
    pub(super) fn new<M>(
        cluster: &Cluster,
        builder: &Builder<M>,
        owns_cluster: bool,
    ) -> Result<Arc<Self>, Error> {
        let config = cluster.config();
        check(config, owns_cluster)?;
        let pool = config.pool();
        let (writers, readers) = match builder.max_size {
            Some(size) => (size as usize, size as usize),
            None => (pool.writer_size, pool.reader_size),
        };
        let mut limits = config.limits().clone();
        if let Some(min) = builder.min_idle {
            (limits.writer_min_size, limits.reader_min_size) = (min as usize, min as usize);
        }
        if let Some(lifetime) = builder.max_lifetime {
            limits.max_lifetime = lifetime;
        }
        if let Some(timeout) = builder.idle_timeout {
            limits.idle_timeout = timeout;
        }
        let driver = Libpq {
            customizer: builder.customizer.clone(),
            test_on_check_out: builder.test_on_check_out,
        };
        let sub_pools = SubPools::with_limits(cluster, driver, writers, readers, limits);
        sub_pools.keep();
        Ok(Arc::new(Self {
            transactions: Transactions::new(cluster),
            resolver: Resolver::new(cluster),
            timeout: builder.connection_timeout.unwrap_or(pool.checkout_timeout),
            sub_pools,
            refuses_writes: builder.refuse_writes,
            owns_cluster,
        }))
    }

    pub(super) async fn checkout<M>(
        &self,
        wish: Wish,
        timeout: Duration,
    ) -> Result<PooledConnection<M>, Error> {
        let only_reads = self.only_reads(wish);
        let hand_out = |object, _: &_| PooledConnection::new(object, only_reads);
        let got = match wish {
            Wish::Host(target) => {
                let pools = &self.sub_pools;
                let got = pools.checkout(Purpose::New, target, timeout, hand_out);
                got.await
            }
            Wish::Seen(token) => {
                let got = self.checkout_at(&token, timeout);
                return got.await.map(|(conn, _)| conn);
            }
        };
        Ok(got?)
    }

    pub(super) async fn checkout_at<M>(
        &self,
        token: &ConsistencyToken,
        timeout: Duration,
    ) -> Result<(PooledConnection<M>, Served), Error> {
        let only_reads = self.only_reads(Wish::Seen(*token));
        let hand_out = |object, _: &_| PooledConnection::new(object, only_reads);
        let pools = &self.sub_pools;
        let got = pools.checkout_at(Purpose::New, token, timeout, hand_out);
        Ok(got.await?)
    }

    pub(super) fn try_checkout<M>(&self, wish: Wish) -> Option<PooledConnection<M>> {
        let only_reads = self.only_reads(wish);
        let hand_out = |object, _: &_| PooledConnection::new(object, only_reads);
        match wish {
            Wish::Host(target) => self.sub_pools.try_checkout(target, hand_out),
            Wish::Seen(token) => self.sub_pools.try_checkout_at(&token, hand_out),
        }
    }

    fn only_reads(&self, wish: Wish) -> bool {
        self.refuses_writes && is_reader(wish.target())
    }

    pub(super) fn close(&self) {
        self.resolver.close();
        self.sub_pools.close();
        if self.owns_cluster {
            self.sub_pools.cluster().close();
        }
    }

    pub(super) async fn close_within(&self, timeout: Duration) {
        self.resolver.close();
        self.sub_pools.close_within(timeout).await;
        self.close();
    }

    pub(super) async fn drain(&self, timeout: Duration) {
        // How many were aborted is told by an event.
        let _ = self.sub_pools.drain(timeout).await;
        self.close_within(Duration::ZERO).await;
    }

    pub(super) fn resize(&self, max_size: usize) {
        let size = Some(max_size.max(1));
        self.sub_pools.resize(size, size);
    }
}

/// Whether it asks for a host on which nothing can be written.
pub(super) fn is_reader(target: Target) -> bool {
    matches!(target, Target::Standby | Target::PreferStandby)
}
