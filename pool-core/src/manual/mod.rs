//! The manual: what leadpool promises, and where that ends.
//!
//! - [Is my commit safe?](commit) What becomes of a COMMIT that a failover cuts off.
//! - [What is retried](retries) Every error, in every phase of a transaction.

pub mod commit {
    #![doc = include_str!("commit.md")]
}

pub mod retries {
    #![doc = include_str!("retries.md")]
}
