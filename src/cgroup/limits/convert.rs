//! From v1's units to v2's: design.md §7.
