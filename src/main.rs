//! `ferrun`: see the library.

#![no_main]

#[global_allocator]
static ALLOCATOR: ferrun::sys::alloc::Bump = ferrun::sys::alloc::Bump::new();

ferrun::entry!(ferrun::cli::main);
