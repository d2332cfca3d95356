//! What is kept of a container between two commands: `ROOT/ID/`, one directory for each.
//!
//! The record is written ahead: what will be made stands in it before it is made, so that whoever comes after
//! a crash can clean up without guessing.

pub mod id;
pub mod process;
pub mod record;
pub mod store;
