//! The program's entry point without the standard library's start-up.
//!
//! What is skipped: a poll of the standard fds, a SIGPIPE handler (the container must not inherit an
//! ignored SIGPIPE) and an alternate signal stack. 12 system calls and 0.1 ms of every command.

use std::ffi::{CStr, OsString};
use std::os::unix::ffi::OsStringExt;

/// The arguments of this process, from what the C runtime hands to `main`.
///
/// # Safety
/// `argv` holds `argc` pointers to NUL-terminated strings.
pub unsafe fn arguments(argc: i32, argv: *const *const libc::c_char) -> Vec<OsString> {
    (0..usize::try_from(argc).unwrap_or(0))
        .map(|i| {
            // SAFETY: the caller vouches for argc pointers to strings.
            let argument = unsafe { CStr::from_ptr(*argv.add(i)) };
            OsString::from_vec(argument.to_bytes().to_vec())
        })
        .collect()
}

/// Defines C's `main` as a call of `$main(Vec<OsString>) -> i32`. Expanded once, in main.rs.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: i32, argv: *const *const std::ffi::c_char) -> i32 {
            // SAFETY: the C runtime passes argc strings in argv.
            let arguments = unsafe { $crate::sys::entry::arguments(argc, argv) };
            $main(arguments)
        }
    };
}
