//! Why the kernel may have refused: looked up only after an EPERM or EACCES, for the hint of the error.

use std::path::Path;

use crate::error::Error;
use crate::sys::proc;

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Adds what stands between this process and what it was refused, where there is anything to name.
#[must_use]
pub fn explain(error: Error) -> Error {
    if !matches!(error.errno(), Some(libc::EPERM | libc::EACCES)) || error.parts().hint.is_some() {
        return error;
    }
    let read = |path: &str| proc::read(Path::new(path)).unwrap_or_default();
    let causes = causes(&read("/proc/self/status"), &read("/proc/self/uid_map"), &read("/proc/self/attr/current"));
    if causes.is_empty() { error } else { error.hint(causes.join("; ")) }
}

/// From status and uid_map of /proc/self, and its label (proc_pid_status(5), user_namespaces(7)).
pub fn causes(status: &str, uid_map: &str, label: &str) -> Vec<String> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mut causes = Vec::new();
    let effective = field("CapEff:").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    if effective.is_some_and(|mask| mask & CAP_SYS_ADMIN == 0) {
        causes.push("this process does not have CAP_SYS_ADMIN".to_owned());
    }
    if field("Seccomp:").is_some_and(|mode| mode != "0") {
        causes.push("a seccomp filter is on this process and may have refused the call".to_owned());
    }
    if field("NoNewPrivs:") == Some("1") && effective == Some(0) {
        causes.push("no_new_privs is set".to_owned());
    }
    let whole: Vec<&str> = uid_map.split_whitespace().collect();
    if !whole.is_empty() && whole != ["0", "0", "4294967295"] {
        causes.push("this process is in a user namespace of its own".to_owned());
    }
    let label = label.trim_end_matches(['\0', '\n']);
    if !label.is_empty() && label != "unconfined" && label != "kernel" {
        causes.push(format!("the security label {label} may forbid it"));
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::causes;

    #[test]
    fn each_cause_is_named() {
        let whole = "         0          0 4294967295\n";
        assert!(causes("CapEff:\t000001ffffffffff\nSeccomp:\t0\n", whole, "unconfined\n").is_empty());
        assert!(causes("CapEff:\t0000000000000000\n", whole, "")[0].contains("CAP_SYS_ADMIN"));
        assert!(causes("CapEff:\t000001ffffffffff\nSeccomp:\t2\n", whole, "")[0].contains("seccomp"));
        assert!(causes("", "0 1000 1\n", "")[0].contains("user namespace"));
        assert!(causes("", whole, "docker-default (enforce)\n")[0].contains("docker-default"));
    }
}
