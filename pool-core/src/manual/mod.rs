//! The manual: what leadpool promises, and where that ends.
//!
//! - [Is my commit safe?](commit) What becomes of a COMMIT that a failover cuts off.
//! - [What is retried](retries) Every error, in every phase of a transaction.
//! - [Reading one's own writes](consistency) Standbys that have what was written, tokens, failovers.
//! - [Silence](silence) What each timer does, and what becomes of a query on a host that is gone.
//! - [How many connections, and for how long](limits) Sizes, lives, queues, pauses, the end.
//! - [Any cluster](clusters) Where hosts come from, a page for each source; which standby reads.
//! - [What can be seen from outside](observability) Metrics, spans, events, the status; a dashboard.
//! - [TLS](tls) What each `sslmode` protects from, what is checked, and when certificates are
//!   renewed.
//! - [Credentials](credentials) Where passwords come from, and what a rotation does.
//! - [Sessions](session) What a connection begins with and leaves behind; what survives a failover;
//!   notifications.
//! - [The options of the AWS drivers](aws) Each with what it is here.
//! - [Configuration](configuration) Every setting, in code, files, URLs and the environment.
//! - [Running leadpool in production](production) A checklist, and a full configuration.

pub mod commit {
    #![doc = include_str!("commit.md")]
}

pub mod retries {
    #![doc = include_str!("retries.md")]
}

pub mod consistency {
    #![doc = include_str!("consistency.md")]
}

pub mod silence {
    #![doc = include_str!("silence.md")]
}

pub mod limits {
    #![doc = include_str!("limits.md")]
}

pub mod clusters {
    #![doc = include_str!("clusters/overview.md")]

    pub mod listed {
        #![doc = include_str!("clusters/listed.md")]
    }

    pub mod replicas {
        #![doc = include_str!("clusters/replicas.md")]
    }

    pub mod aurora {
        #![doc = include_str!("clusters/aurora.md")]
    }

    pub mod multi_az {
        #![doc = include_str!("clusters/multi_az.md")]
    }

    pub mod auto_failover {
        #![doc = include_str!("clusters/auto_failover.md")]
    }

    pub mod repmgr {
        #![doc = include_str!("clusters/repmgr.md")]
    }
}

pub mod observability {
    #![doc = include_str!("observability.md")]
}

pub mod tls {
    #![doc = include_str!("tls.md")]
}

pub mod credentials {
    #![doc = include_str!("credentials.md")]
}

pub mod session {
    #![doc = include_str!("session.md")]
}

pub mod aws {
    #![doc = include_str!("aws.md")]
}

pub mod configuration {
    #![doc = include_str!("configuration.md")]
}

pub mod production {
    #![doc = include_str!("production.md")]
}
