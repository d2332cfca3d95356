//! Operations on containers that exist.

pub mod delete;
pub mod events;
pub mod exec;
pub mod kill;
mod label;
pub mod list;
pub mod notify;
pub mod pause;
pub mod ps;
pub mod report;
pub mod start;
pub mod update;
