//! What the two binaries share: the shape of the two containers that are compared.
//!
//! `bench` writes these facts as config.json for the runtimes, `floor` does them by plain system calls; as long as
//! both read them here, the floor is the floor of the same container.

pub mod shape;
pub mod syscalls;
