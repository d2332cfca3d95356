//! Runs the cases of one sandbox, each in its own process, and looks for what it
//! left behind.

use crate::bundle;
use crate::case::{self, Case};
use crate::cases;
use crate::cgroup;
use crate::leaks::Before;
use crate::options::Options;
use crate::run::wait_until;
use crate::selinux;
use crate::tally::Tally;
use crate::user;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Starts the line that carries the counts to the outer process.
pub const SUM: &str = "\u{1}sum ";

/// How often a case that failed is tried again.
const ATTEMPTS: usize = 2;

enum Verdict {
    Ok,
    Fail(String),
    Skip(String),
}

/// `__worker`: pid 2 of the sandbox.
pub fn main() -> ExitCode {
    let options = match Options::inherited() {
        Ok(o) => o,
        Err(e) => {
            eprintln!("worker: {e}");
            return ExitCode::from(2);
        }
    };
    let template = options.base.join("template");
    let made = bundle::make_template(&template);
    if let Err(e) = made.and_then(|()| if options.userns { bundle::give(&template) } else { Ok(()) }) {
        eprintln!("worker: rootfs template: {e}");
        return ExitCode::from(2);
    }
    let wants_selinux = cases::all().iter().any(|c| options.wants(&c.name) && c.name.starts_with("lsm::selinux"));
    if wants_selinux && let Err(e) = selinux::prepare(&options.base) {
        eprintln!("worker: {e}");
        return ExitCode::from(2);
    }
    let tally = run_all(&options);
    println!("{SUM}{}", tally.line());
    ExitCode::SUCCESS
}

/// One after the other; then once more what failed, when nothing else is left to do.
fn run_all(options: &Options) -> Tally {
    let wanted: Vec<Case> = cases::all().into_iter().filter(|c| options.wants(&c.name)).collect();
    let mut tally = Tally::default();
    let mut again = Vec::new();
    for (n, case) in wanted.iter().enumerate().filter(|(n, _)| n % options.jobs == options.job) {
        let begin = Instant::now();
        let verdict = judge(options, case, n);
        let took = if options.verbose { format!("  [{} ms]", begin.elapsed().as_millis()) } else { String::new() };
        match verdict {
            Verdict::Ok => {
                tally.passed += 1;
                println!("ok {}{took}", case.name);
            }
            Verdict::Fail(why) if options.strict => {
                tally.failed += 1;
                println!("FAIL {}: {}{took}", case.name, one_line(&why));
            }
            Verdict::Fail(why) => {
                println!("failed, to be tried again: {}: {}{took}", case.name, one_line(&why));
                again.push((n, case, why));
            }
            Verdict::Skip(why) => {
                tally.skipped += 1;
                println!("skip {}: {}{took}", case.name, one_line(&why));
            }
        }
    }
    // So many are no accident.
    let attempts = if again.len() > 20 { 0 } else { ATTEMPTS };
    for (n, case, why) in again {
        // Numbers that no other attempt has, in no job.
        let numbers = (0..attempts).map(|attempt| wanted.len() + n * ATTEMPTS + attempt);
        if numbers.into_iter().any(|number| matches!(judge(options, case, number), Verdict::Ok)) {
            tally.passed += 1;
            tally.unsteady += 1;
            println!("unsteady {}: {}", case.name, one_line(&why));
        } else {
            tally.failed += 1;
            println!("FAIL {}: {}", case.name, one_line(&why));
        }
    }
    tally
}

fn one_line(s: &str) -> String {
    s.split('\n').map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join(" | ")
}

/// Runs one case. What is known of a peer is not run, and with `--strict` said beside what is seen.
fn judge(options: &Options, case: &Case, n: usize) -> Verdict {
    let known = case.known_difference(&options.kind);
    if options.strict {
        return match (attempt(options, case, n), known) {
            (Verdict::Fail(why), Some(known)) => Verdict::Fail(format!("{known} (seen: {why})")),
            (Verdict::Ok, Some(known)) => {
                println!("    | a known difference did not show: {known}");
                Verdict::Ok
            }
            (verdict, _) => verdict,
        };
    }
    if !case.only.is_empty() && !case.only.contains(&options.kind.as_str()) {
        return Verdict::Skip(format!("only for {}: {}", case.only.join(", "), case.only_why));
    }
    if let Some(why) = case.without_userns.filter(|_| options.userns) {
        return Verdict::Skip(format!("with a user namespace: {why}"));
    }
    if let Some(why) = user::why_not(options, &case.name) {
        let place = match options {
            o if o.as_user => "by an ordinary user",
            o if o.is_nested() => "in a user namespace",
            _ => "in a container",
        };
        return Verdict::Skip(format!("{place}: {why}"));
    }
    match known {
        Some(known) => Verdict::Skip(format!("{} differs: {known}", options.kind)),
        None => attempt(options, case, n),
    }
}

fn attempt(options: &Options, case: &Case, n: usize) -> Verdict {
    let mut o = options.clone();
    // Of one length: no case's tag is the beginning of another's.
    o.tag = format!("{}c{n:04}", options.tag);
    let dir = options.base.join(format!("case{n}"));
    let before = Before::look(&o);
    let owned = || if o.as_user { user::own_case(&o, &dir) } else { Ok(()) };
    let parent = || if o.no_cgroups { Ok(()) } else { cgroup::make_parent(&o.cgroups, &o.tag) };
    let made = fs::create_dir(&dir).and_then(|()| parent()).and_then(|()| owned());
    let verdict = match made {
        Ok(()) => in_its_own_process(&o, case, &dir),
        Err(e) => Verdict::Fail(format!("cannot prepare: {e}")),
    };
    let left = before.leftovers(&dir.join("root"), &o);
    if options.verbose && matches!(verdict, Verdict::Fail(_)) {
        print_log(&dir);
    }
    before.clean(&o);
    let _ = fs::remove_dir_all(&dir);
    match verdict {
        Verdict::Ok | Verdict::Skip(_) if !left.is_empty() => {
            Verdict::Fail(format!("left behind: {}", left.join("; ")))
        }
        Verdict::Fail(why) if !left.is_empty() => Verdict::Fail(format!("{why}; and left behind: {}", left.join("; "))),
        v => v,
    }
}

fn in_its_own_process(options: &Options, case: &Case, dir: &Path) -> Verdict {
    let run = || -> std::io::Result<Verdict> {
        let log = dir.join("case.log");
        let mut command = Command::new("/proc/self/exe");
        command.arg("__case").arg(&case.name).arg(dir).current_dir(dir);
        options.hand_to(&mut command);
        let mut child = command
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::create(dir.join("case.err"))?)
            .spawn()?;
        let limit = Duration::from_secs(options.limit * case.patience);
        let Some(status) = wait_until(&mut child, Instant::now() + limit)? else {
            child.kill()?;
            child.wait()?;
            return Ok(Verdict::Fail(format!("not done after {} s", limit.as_secs())));
        };
        let said = fs::read_to_string(&log)?;
        Ok(match status.code() {
            Some(c) if c == i32::from(case::OK) => Verdict::Ok,
            Some(c) if c == i32::from(case::BROKEN) => Verdict::Fail(said),
            Some(c) if c == i32::from(case::SKIPPED) => Verdict::Skip(said),
            _ => Verdict::Fail(format!(
                "the case itself broke ({status}): {said} {}",
                fs::read_to_string(dir.join("case.err"))?
            )),
        })
    };
    run().unwrap_or_else(|e| Verdict::Fail(format!("cannot run the case: {e}")))
}

/// Everything that the runtime was asked and said, for a failed case.
fn print_log(dir: &Path) {
    let Ok(text) = fs::read_to_string(dir.join("commands.log")) else { return };
    for line in text.lines() {
        println!("    | {line}");
    }
}
