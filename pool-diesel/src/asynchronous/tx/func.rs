//! Closures that borrow the connection.

/// An async closure whose future can be named, and so be asked to be `Send`: what
/// [`Pool::run_tx_ref`](crate::Pool::run_tx_ref) takes. Every `async |conn| ..` is one.
///
/// ```
/// fn takes<R>(_: impl for<'r> leadpool_diesel::AsyncFuncOnce<&'r mut i32, R>) {}
///
/// takes(async |n: &mut i32| *n + 1);
/// ```
pub trait AsyncFuncOnce<A, R>: FnOnce(A) -> <Self as AsyncFuncOnce<A, R>>::Fut {
    /// Its future.
    type Fut: Future<Output = R>;
}

impl<F, A, R, Fut> AsyncFuncOnce<A, R> for F
where
    F: FnOnce(A) -> Fut,
    Fut: Future<Output = R>,
{
    type Fut = Fut;
}
