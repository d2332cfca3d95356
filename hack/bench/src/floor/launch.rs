//! `floor rss`: the peak RSS of a program, not floored by who started it.
//!
//! A child's ru_maxrss begins with what its parent had at the exec (the kernel carries the high-water mark of the old
//! address space over, for fork and vfork alike), so the bench itself, with its samples and tables, must not be the
//! one that starts the program. This process has touched a few pages only.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::process::ExitCode;

use crate::c;

pub(crate) fn report_peak(file: &str, program: &[&str]) -> ExitCode {
    let args: Vec<CString> = program.iter().map(|arg| c(arg)).collect();
    let mut argv: Vec<*mut libc::c_char> = args.iter().map(|arg| arg.as_ptr().cast_mut()).collect();
    argv.push(std::ptr::null_mut());
    let mut pid = 0;
    // SAFETY: argv is a null-terminated array of C strings that live to the end of this function, `environ` likewise
    // of the process; no thread changes the environment.
    let failed = unsafe {
        libc::posix_spawn(&mut pid, argv[0], std::ptr::null(), std::ptr::null(), argv.as_ptr(), environ.cast_const())
    };
    if failed != 0 {
        eprintln!("floor rss: {}: {}", program[0], std::io::Error::from_raw_os_error(failed));
        return ExitCode::from(127);
    }
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which all zeroes is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live variables of the types that wait4 fills.
    if unsafe { libc::wait4(pid, &mut status, 0, &mut usage) } != pid {
        eprintln!("floor rss: wait4: {}", std::io::Error::last_os_error());
        return ExitCode::FAILURE;
    }
    if let Err(error) = std::fs::write(file, usage.ru_maxrss.to_string()) {
        eprintln!("floor rss: {file}: {error}");
        return ExitCode::FAILURE;
    }
    if libc::WIFEXITED(status) { ExitCode::from(libc::WEXITSTATUS(status) as u8) } else { ExitCode::FAILURE }
}

unsafe extern "C" {
    static mut environ: *mut *mut libc::c_char;
}
