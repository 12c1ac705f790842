//! Servers, and what is done to their primary.

mod fault;
mod observer;
mod stack;

pub(crate) use self::{
    fault::{Fault, Observed, apply},
    stack::{Kind, Stack},
};
