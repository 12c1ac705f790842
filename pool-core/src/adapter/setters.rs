//! The setters that the builders of all drivers have.

/// The setters of a `TxBuilder` with a field `options`, for an `impl` block; the argument is the
/// path to this crate in links.
#[doc(hidden)]
#[macro_export]
macro_rules! tx_setters {
    ($root:literal) => {
        /// Gives it a name, under which logs and observers find it.
        pub fn name(mut self, name: impl Into<::std::borrow::Cow<'static, str>>) -> Self {
            self.options.name = Some(name.into());
            self
        }

        /// Only reads, on a standby; on the writer while no standby is usable.
        pub fn reader(self) -> Self {
            self.target($crate::topology::Target::PreferStandby).read_only(true)
        }

        /// Only reads, and sees what the token stands for: on a standby that has replayed it, else
        #[doc = concat!(" on the writer, as [`Pool::reader_at`](", $root, "::Pool::reader_at). Each attempt is served anew.")]
        pub fn reader_at(self, token: &$crate::consistency::ConsistencyToken) -> Self {
            let mut this = self.reader();
            this.options.token = Some(*token);
            this
        }

        /// Where it runs: on the writer by default. What goes to a standby should be
        /// [`read_only`](Self::read_only) too, so that it fails the same way when the writer serves it:
        /// see [`reader`](Self::reader). It takes back a [`reader_at`](Self::reader_at).
        pub fn target(mut self, target: $crate::topology::Target) -> Self {
            self.options.target = target;
            self.options.token = None;
            self
        }

        /// The isolation level; the server's `default_transaction_isolation` if not set.
        pub fn isolation(mut self, level: $crate::adapter::IsolationLevel) -> Self {
            self.options.isolation = Some(level);
            self
        }

        /// Whether it may only read; the server's `default_transaction_read_only` if not set.
        ///
        /// What only reads is repeated also when the answer to its COMMIT is lost. So a closure must
        /// not make it `READ WRITE` again.
        pub fn read_only(mut self, read_only: bool) -> Self {
            self.options.read_only = Some(read_only);
            self
        }

        /// Makes a serializable, read-only transaction wait for a snapshot that can't fail.
        pub fn deferrable(mut self) -> Self {
            self.options.deferrable = true;
            self
        }

        /// How long each of its statements may take before the server ends it with 57014, which is an
        #[doc = concat!(" error and not repeated: see [`Error::is_statement_timeout`](", $root, "::Error::is_statement_timeout).")]
        /// It travels with BEGIN, and ends with the transaction. COMMIT is exempt,
        /// [`deadline`](Self::deadline) bounds it. Zero is no limit. Default:
        #[doc = concat!(" [`PoolSettings::statement_timeout`](", $root, "::config::PoolSettings::statement_timeout).")]
        pub fn statement_timeout(mut self, limit: ::std::time::Duration) -> Self {
            self.options.statement_timeout = Some(limit);
            self
        }

        /// How often it is repeated after the first attempt, at most. An outage costs one retry,
        #[doc = concat!(" however long it is. Default: [`TxSettings::retries`](", $root, "::config::TxSettings::retries).")]
        pub fn retries(mut self, retries: u32) -> Self {
            self.options.retries = retries;
            self
        }

        /// How long it may take, all attempts and waits together. After an attempt that lost against
        /// another transaction a retry begins only if as much time is left as that attempt took.
        #[doc = concat!(" Default: [`TxSettings::deadline`](", $root, "::config::TxSettings::deadline).")]
        pub fn deadline(mut self, deadline: ::std::time::Duration) -> Self {
            self.options.deadline = deadline;
            self
        }

        /// The pauses between attempts, asked for once for each transaction that needs one. When they
        /// end, so do the retries. An attempt that waits for the topology does not pause besides.
        #[doc = concat!(" Default: [`TxSettings::backoff_min`](", $root, "::config::TxSettings::backoff_min) and")]
        #[doc = concat!(" [`backoff_max`](", $root, "::config::TxSettings::backoff_max).")]
        ///
        /// # Examples
        ///
        /// Whatever gives durations will do, for instance what the crate `backon` builds:
        ///
        /// ```no_run
        /// # async fn f(pool: leadpool::Pool) -> Result<(), leadpool::Error> {
        /// use backon::{BackoffBuilder, FibonacciBuilder};
        ///
        /// pool.tx()
        ///     .backoff(|| FibonacciBuilder::default().with_jitter().build())
        ///     .run(|tx| async move { tx.execute("UPDATE jobs SET done = true", &[]).await?; Ok(()) })
        ///     .await?;
        /// # Ok(())
        /// # }
        /// ```
        ///
        /// The policies of the crate `backoff` are turned into pauses by `leadpool::backoff_pauses`,
        /// with the feature `backoff`.
        pub fn backoff<I>(mut self, pauses: impl Fn() -> I + Send + Sync + 'static) -> Self
        where
            I: IntoIterator<Item = ::std::time::Duration>,
            I::IntoIter: Send + 'static,
        {
            self.options.set_backoff(pauses);
            self
        }

        /// Is told of each attempt, as soon as it has its connection. It observes only: it can't
        /// change what happens, and must not block.
        pub fn on_attempt(mut self, observe: impl Fn(&$crate::adapter::Attempt<'_>) + Send + Sync + 'static) -> Self {
            self.options.on_attempt = Some(::std::sync::Arc::new(observe));
            self
        }

        /// Is told before each retry. It observes only: it can't change what happens, and must not
        /// block.
        pub fn on_retry(mut self, observe: impl Fn(&$crate::adapter::Retry<'_>) + Send + Sync + 'static) -> Self {
            self.options.on_retry = Some(::std::sync::Arc::new(observe));
            self
        }

        /// Whether it gathers evidence. Default:
        #[doc = concat!(" [`TxSettings::evidence`](", $root, "::config::TxSettings::evidence).")]
        pub fn evidence(mut self, evidence: bool) -> Self {
            self.options.evidence = evidence;
            self
        }

        /// How sure a verdict on its COMMIT has to be. Default:
        #[doc = concat!(" [`TxSettings::proof`](", $root, "::config::TxSettings::proof).")]
        pub fn proof(mut self, proof: $crate::outcome::Proof) -> Self {
            self.options.proof = proof;
            self
        }

        /// How long to look for what became of its COMMIT, if that was not answered. Default: until
        #[doc = concat!(" the deadline. With zero the transaction is [`Error::Unknown`](", $root, "::Error::Unknown) at once,")]
        /// and its evidence can
        /// be asked for later, where nobody waits: see [`Pool::resolve`].
        pub fn resolve_within(mut self, limit: ::std::time::Duration) -> Self {
            self.options.resolve_within = Some(limit);
            self
        }

        /// Is told what became of a COMMIT in flight. It observes only, and must not block.
        pub fn on_resolved(mut self, observe: impl Fn(&$crate::adapter::Resolved<'_>) + Send + Sync + 'static) -> Self {
            self.options.on_resolved = Some(::std::sync::Arc::new(observe));
            self
        }
    };
}
