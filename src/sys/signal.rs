//! The signal state that a new program starts with.

/// Resets what execve(2) hands on: an empty mask. (Dispositions are never changed by this program.)
pub fn unblock_all() {
    // SAFETY: a zeroed sigset_t is an empty set on Linux; the call changes this thread's mask only.
    unsafe {
        let empty: libc::sigset_t = std::mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut());
    }
}
