//! Operations on containers that exist.

pub mod delete;
pub mod kill;
pub mod list;
pub mod notify;
pub mod start;
