//! The C surface: one file per noun of the header.
//!
//! Every export is one call of [`guard`], which answers in a forked child, catches panics and keeps the
//! thread's last error; every raw pointer becomes a reference in [`arg`] and nowhere else. Nothing here knows
//! rings or backends.
#![allow(unsafe_code)]

mod arg;
mod guard;

pub mod version;

pub mod runtime;

pub mod program;

pub mod kernel;

pub mod message;

pub mod context;

pub mod event;

pub mod metrics;
