//! `ps`: the processes of a container, as the host's ps(1) shows them.
//!
//! Its columns are for it to know, so /proc is not read here: of its lines those remain whose pid is in the
//! container's cgroups.

use std::ffi::OsString;

use crate::cgroup;
use crate::error::{Context, Error, Result};
use crate::state::store::Store;

/// The processes of a container, in pids of the caller.
///
/// # Errors
/// `does not exist`.
pub fn pids(store: &Store, id: &str) -> Result<Vec<i32>> {
    let record = store.enter(id)?.load_created()?;
    cgroup::pids(&record.placement).context(|| format!("ps {id}"))
}

/// What ps(1) with these options says of them.
///
/// # Errors
/// As [`pids`]; ps fails, or shows no PID.
pub fn table(store: &Store, id: &str, options: &[OsString]) -> Result<String> {
    let pids = pids(store, id)?;
    let table = || filter(&run(options)?, &pids);
    table().context(|| format!("ps {id}"))
}

fn run(options: &[OsString]) -> Result<String> {
    #[expect(clippy::disallowed_methods, reason = "a program of the host's, found as the caller would find it")]
    let mut command = std::process::Command::new("ps");
    command.args(options);
    let output = command.stdin(std::process::Stdio::null()).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::new("exec: \"ps\": executable file not found in $PATH"),
        _ => Error::os("exec ps", error),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let status = output.status.code().map_or("killed".to_owned(), |code| format!("exit status {code}"));
    Err(Error::new(format!("{status}: {}", said.join("; "))))
}

/// The heading, and the lines of these processes.
fn filter(text: &str, pids: &[i32]) -> Result<String> {
    let mut lines = text.lines();
    let heading = lines.next().unwrap_or_default();
    let column = heading.split_whitespace().position(|name| name == "PID");
    let column = column.ok_or_else(|| Error::new("couldn't find PID field in ps output"))?;
    let mut table = format!("{heading}\n");
    for line in lines {
        let Some(field) = line.split_whitespace().nth(column) else { continue };
        let pid = field.parse().map_err(|_| Error::new(format!("unable to parse pid: {field:?}")))?;
        if pids.contains(&pid) {
            table += line;
            table.push('\n');
        }
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::filter;

    #[test]
    fn lines_by_pid() {
        let text = "UID   PID  PPID CMD\nroot    1     0 init 7\nroot    7     1 a b\n\nroot   70     1 c\n";
        assert_eq!(filter(text, &[7]).expect("table"), "UID   PID  PPID CMD\nroot    7     1 a b\n");
        assert_eq!(filter(text, &[]).expect("table"), "UID   PID  PPID CMD\n");
        assert!(filter("USER\nroot\n", &[7]).is_err());
        assert!(filter("PID\nx\n", &[7]).is_err());
        assert!(filter("", &[7]).is_err());
    }
}
