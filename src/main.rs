//! `ferrun`: see the library.

#![no_main]

ferrun::entry!(ferrun::cli::main);
