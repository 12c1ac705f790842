//! Small programs that each teach one thing about leadpool.
