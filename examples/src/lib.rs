//! The programs are in `src/bin`. What stands here has the README's code compiled.
#![cfg_attr(doctest, doc = include_str!("../../README.md"))]
