//! Attacks on the runtime, each by a hostile rootfs, program or racing neighbour, and each judged from the host
//! (`oracle`): it works and stays inside, or it stops with one clear error; the host is as it was either way.
//!
//! `tNN_` is the number in the matrix of threats; the CVE is at the case. A peer is said to differ only where its
//! attack was seen to succeed.
//!
//! T51 came later: what container's root in a user namespace can make of the host's mounts.
//!
//! With `--userns` all of it runs with a user namespace in every bundle.
//!
//! T23, T24 and T28 are the shim's: `shim/tests/task/security.rs`. Not here yet: T30, T31 and T33 with checkpoints.
//!
//! What stood before under other names: T27 `exec::user_by_name_in_a_huge_file`, T34 `exec::cgroup_outside_is_refused`,
//! T36 and T40 in the unit tests of `sys::bpf` and in `tests/plan`, T37 `t02_a_birth_in_a_shared_pid_namespace`, T38
//! `hooks::env_is_exact`, T39 `hooks::descriptors_are_only_the_three`, T41 `capabilities::securebits_are_untouched` and
//! `options::a_new_session_keyring`, T42 `process::oom_score_adj`, T44 `rootfs::devices_despite_the_umask`, T46 `ids::`,
//! T48 `hooks::timeout_ends_the_whole_group`, T50 `t02_` (nobody can trace).

mod fds;
mod hardening;
pub mod locked;
mod masks;
mod oracle;
mod paths;
mod procfs;
mod race;
mod robbery;
mod state;
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
        locked::cases(),
        procfs::cases(),
        fds::cases(),
        terminal::cases(),
        hardening::cases(),
        state::cases(),
        variants::cases(),
    ];
    themes.into_iter().flatten().collect()
}
