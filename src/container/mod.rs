//! Operations on containers that exist.

pub mod delete;
pub mod exec;
pub mod kill;
pub mod list;
pub mod notify;
pub mod pause;
pub mod start;
pub mod update;
