//! The retry budget that all transactions of a pool share.

use std::sync::Mutex;

/// Bounds retries to a share of the transactions, plus a reserve: when everything fails, retries
/// must not multiply the load on a database that is in trouble already (the "retry budget" of
/// Google's SRE book, chapter 22).
///
/// Each committed transaction pays `ratio` in, each retry takes 1 out; the reserve is what it
/// holds at most, and at first.
#[derive(Debug)]
pub struct Budget {
    ratio: f64,
    reserve: f64,
    balance: Mutex<f64>,
}

impl Budget {
    /// A budget with this reserve, and this share for each committed transaction.
    #[must_use]
    pub fn new(reserve: u32, ratio: f64) -> Self {
        let reserve = f64::from(reserve);
        Self {
            ratio,
            reserve,
            balance: Mutex::new(reserve),
        }
    }

    /// A transaction was committed.
    pub fn deposit(&self) {
        let mut balance = self.lock();
        *balance = (*balance + self.ratio).min(self.reserve);
    }

    /// Asks for a retry.
    pub fn withdraw(&self) -> bool {
        let mut balance = self.lock();
        let granted = *balance >= 1.0;
        if granted {
            *balance -= 1.0;
        }
        granted
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, f64> {
        self.balance
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_goes_first_then_a_share_of_what_succeeds() {
        let budget = Budget::new(2, 0.5);
        assert!(budget.withdraw());
        assert!(budget.withdraw());
        assert!(!budget.withdraw());
        budget.deposit();
        assert!(!budget.withdraw());
        budget.deposit();
        assert!(budget.withdraw());
        assert!(!budget.withdraw());
    }

    #[test]
    fn it_never_holds_more_than_the_reserve() {
        let budget = Budget::new(1, 10.0);
        budget.deposit();
        budget.deposit();
        assert!(budget.withdraw());
        assert!(!budget.withdraw());
    }
}
