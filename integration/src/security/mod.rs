//! Attacks on the runtime, each by a hostile rootfs, program or racing neighbour, and each judged from the host
//! (`oracle`): it works and stays inside, or it stops with one clear error; the host is as it was either way.
//!
//! `tNN_` is the number in the matrix of threats; the CVE is at the case. A peer is said to differ only where its
//! attack was seen to succeed.
//!
//! Not here yet: T12 (rootless), the users of T09's maps and every variant in a user namespace, which come with user
//! namespaces; T23, T24 and T28 with the shim; T30, T31 and T33 with checkpoints; and T27 to T50 but those.

mod fds;
mod masks;
mod oracle;
mod paths;
mod procfs;
mod race;
mod robbery;
mod terminal;
mod users;
mod variants;

use crate::case::Case;

pub fn cases() -> Vec<Case> {
    let themes = [
        users::cases(),
        robbery::cases(),
        paths::cases(),
        masks::cases(),
        procfs::cases(),
        fds::cases(),
        terminal::cases(),
        variants::cases(),
    ];
    themes.into_iter().flatten().collect()
}
