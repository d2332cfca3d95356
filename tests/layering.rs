//! Which module may use which, checked on the text of `src/`: `use crate::…`, `crate::…::` in code, and `super::`
//! where it leads out of the module. And the rules that go with it: where `unsafe` is, how long files are, and
//! which calls some modules must not make. Needs no privileges.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]
#[path = "layering/text.rs"]
mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use text::{code_only, uses, without_tests};

/// A module, and what it may use beside itself. `config::seccomp` allows that part only. A module that is not
/// here may use nothing, so that a new one is thought about.
const MAY_USE: [(&str, &[&str]); 14] = [
    ("error", &[]),
    ("sys", &["error"]),
    ("log", &["error"]),
    ("host", &["error", "sys"]),
    ("hooks", &["error", "sys"]),
    ("config", &["error", "hooks"]),
    ("seccomp", &["config::seccomp", "error"]),
    ("plan", &["cgroup::limits", "cgroup::systemd::unit", "config", "error", "hooks", "host", "seccomp"]),
    ("init", &["error", "hooks", "launch::channel", "plan::step", "sys"]),
    ("cgroup", &["config::resources", "error", "host", "plan::cgroupfs", "sys"]),
    ("state", &["cgroup::freezer", "error", "hooks", "plan::cgroupfs", "sys"]),
    ("container", &["cgroup", "config::resources", "error", "hooks", "plan::cgroupfs", "state", "sys"]),
    ("launch", &["cgroup", "config", "container", "error", "hooks", "init", "log", "plan", "seccomp", "state", "sys"]),
    (
        "cli",
        &[
            "cgroup",
            "config",
            "container",
            "error",
            "hooks",
            "host",
            "launch",
            "log",
            "plan",
            "seccomp",
            "state",
            "sys",
        ],
    ),
];

const PURE: &[&str] = &["std::fs", "std::process", "std::env", "std::net", "rustix", "nix::"];

/// What std resolves a path string with.
const PATHS: &[&str] = &[
    "File::open",
    "File::create",
    "File::options",
    "OpenOptions",
    "fs::metadata",
    "fs::symlink_metadata",
    "fs::read_dir",
    "fs::read_link",
    "fs::read_to_string",
    "fs::rename",
    "fs::hard_link",
    "fs::soft_link",
    "fs::set_permissions",
    "fs::exists",
    "DirBuilder",
    "unix::fs::symlink",
    "unix::fs::chown",
    "unix::fs::chroot",
    ".is_file()",
    ".is_dir()",
    ".is_symlink()",
    ".read_link()",
    ".read_dir()",
    ".metadata()",
    ".symlink_metadata()",
    ".try_exists()",
];

/// What of rustix takes a name from the current directory or the root: `CWD` for the calls with a directory.
const BY_NAME: [&str; 29] = [
    "CWD",
    "access",
    "chmod",
    "chown",
    "chdir",
    "chroot",
    "getxattr",
    "lgetxattr",
    "link",
    "lsetxattr",
    "lstat",
    "mkdir",
    "mknod",
    "mount",
    "open",
    "readlink",
    "remount",
    "removexattr",
    "rename",
    "rmdir",
    "setxattr",
    "stat",
    "statfs",
    "statvfs",
    "symlink",
    "truncate",
    "unlink",
    "unmount",
    "utimensat",
];

/// The files of the init that call it nevertheless, with what, and why no name of a hostile root is meant.
const NAMES_IN_INIT: [(&str, &[&str], &str); 8] = [
    ("src/init/cgroup.rs", &["open"], "the host's cgroups, before the root is entered"),
    ("src/init/environ.rs", &["CWD", "chdir", "open", "stat"], "as the program does, when the root is entered"),
    ("src/init/identity.rs", &["open"], "the host's /proc, before the root is entered"),
    ("src/init/landlock.rs", &["CWD"], "paths that go over no link, when the root is entered"),
    ("src/init/namespaces.rs", &["open"], "/, to come back to"),
    ("src/init/preflight.rs", &["CWD", "open", "stat", "statvfs"], "the program itself, when the root is entered"),
    ("src/init/root.rs", &["chdir", "chroot", "open", "unmount"], "the root's own path, / and . only"),
    ("src/init/tree.rs", &["CWD", "open", "readlink"], "names of the host's, which the config gives"),
];

/// What must not be in the code of these modules (tests and comments aside), and why.
const MUST_NOT_SAY: [(&str, &[&str], &str); 17] = [
    ("cgroup::devices::emulate", PURE, "rules are turned into other forms, and nothing else"),
    ("cgroup::devices::lists", PURE, "rules are turned into other forms, and nothing else"),
    ("cgroup::devices::program", PURE, "rules are turned into other forms, and nothing else"),
    ("cgroup::devices::rules", PURE, "rules are turned into other forms, and nothing else"),
    ("cgroup::devices::unit", PURE, "rules are turned into other forms, and nothing else"),
    ("cgroup::limits", PURE, "limits are made of what is given"),
    ("cgroup::systemd::unit", PURE, "a scope is made of what is given"),
    (
        "plan",
        &["std::fs", "std::process", "std::env", "std::net", "std::time", "rustix", "nix::", "fs::read"],
        "a plan is made of what it is given: no I/O, no system calls",
    ),
    (
        "config",
        &["std::fs", "std::process", "std::env", "rustix", "nix::"],
        "a config is checked before anything is touched",
    ),
    ("seccomp", &["std::fs", "std::process", "std::env", "rustix", "nix::"], "a filter is made of its profile"),
    (
        "init",
        &[
            "fs::write",
            "fs::canonicalize",
            "fs::copy",
            "fs::create_dir",
            "fs::remove",
            "fs::read",
            "File::create",
            "Path::exists",
            ".exists()",
            ".canonicalize()",
            "Command::new",
            "std::process::Command",
            "oci_spec",
        ],
        "names in the container are resolved by sys::root only; and the init holds no policy",
    ),
    ("init", PATHS, "names in the container are resolved by sys::root only"),
    ("sys::mount", PATHS, "names in the container are resolved by sys::root only"),
    ("sys::root", PATHS, "names in the container are resolved by sys::root only"),
    (
        "init",
        &[
            "std::env",
            "env::var",
            "env::set_var",
            "env::current_dir",
            "print!",
            "println!",
            "eprint!",
            "eprintln!",
            "dbg!",
            "io::stdout",
            "io::stderr",
            "io::stdin",
            "process::exit",
            "process::abort",
            "thread::sleep",
            "std::sync",
            "std::net",
        ],
        "the init has no environment, no standard streams and no end but execve and _exit",
    ),
    ("", &["thread::spawn", "thread::Builder", "thread::scope"], "the process has one thread, always"),
    ("", &["allow(unsafe_code)"], "only src/sys may allow it"),
];

/// Where `unsafe` may be.
const UNSAFE: &str = "src/sys/";

const LONGEST: usize = 600;

/// Made by a program, not to be read as a whole.
const GENERATED: [&str; 1] = ["src/seccomp/table.rs"];

/// A source file, its path from the root of the repository.
struct File {
    path: String,
    text: String,
}

impl File {
    /// `["init", "tty"]` of src/init/tty.rs.
    fn module(&self) -> Vec<&str> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        path.split('/').filter(|part| *part != "mod").collect()
    }

    fn top(&self) -> &str {
        self.module()[0]
    }

    /// Whether `module` (`cgroup::limits`) is this file or above it.
    fn is_in(&self, module: &str) -> bool {
        let path = self.module();
        module.split("::").enumerate().all(|(index, part)| path.get(index) == Some(&part))
    }

    /// lib.rs only declares, main.rs only calls.
    fn is_root(&self) -> bool {
        ["lib", "main"].contains(&self.top())
    }

    /// No comments, no text, no tests.
    fn code(&self) -> String {
        without_tests(&code_only(&self.text))
    }
}

fn files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let mut directories = vec![root.join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                files.push(File { path: path.strip_prefix(root).unwrap().to_str().unwrap().to_owned(), text });
            }
        }
    }
    files.sort_by(|one, other| one.path.cmp(&other.path));
    assert!(files.len() > 50, "{} files are not all of src", files.len());
    files
}

/// What all files do wrong by `rule`, one line each.
fn wrongs(rule: impl Fn(&File) -> Vec<String>) -> String {
    files().iter().flat_map(rule).collect::<Vec<_>>().join("\n")
}

#[test]
fn modules_use_what_is_below_them() {
    let wrongs = wrongs(forbidden_uses);
    assert!(wrongs.is_empty(), "\n{wrongs}");
}

fn forbidden_uses(file: &File) -> Vec<String> {
    if file.is_root() {
        return Vec::new();
    }
    let allowed = MAY_USE.iter().find(|(module, _)| *module == file.top()).map_or(&[][..], |(_, allowed)| *allowed);
    let is_allowed = |path: &str| {
        let below = |of: &str| path == of || path.strip_prefix(of).is_some_and(|rest| rest.starts_with("::"));
        below(file.top()) || allowed.iter().any(|allowed| below(allowed))
    };
    uses(&file.code(), &file.module())
        .into_iter()
        .filter(|(_, path)| !is_allowed(path))
        .map(|(line, path)| format!("{}:{line}: {} must not use crate::{path}", file.path, file.top()))
        .collect()
}

/// The table itself: no module that is gone, none that is missing, and no circle but those that are known.
#[test]
fn the_table_is_about_the_modules_that_there_are() {
    let files = files();
    let modules: BTreeSet<&str> = files.iter().filter(|file| !file.is_root()).map(File::top).collect();
    let known: BTreeSet<&str> = MAY_USE.iter().map(|(module, _)| *module).collect();
    assert_eq!(modules, known);
    for (module, allowed) in MAY_USE {
        assert!(allowed.is_sorted(), "{module}");
        for other in allowed {
            let whole = |module: &str| MAY_USE.iter().position(|(known, _)| *known == module);
            // a part (`launch::channel`) may be above, as long as it is named; a whole module must be below
            match whole(other) {
                Some(place) => assert!(place < whole(module).unwrap(), "{module} is not above {other}"),
                None => assert!(other.contains("::"), "{module} may use {other}, which is no module"),
            }
        }
    }
}

#[test]
fn words_that_some_modules_must_not_say() {
    let wrongs = wrongs(forbidden_words);
    assert!(wrongs.is_empty(), "\n{wrongs}");
}

fn forbidden_words(file: &File) -> Vec<String> {
    let code = file.code();
    let rules = MUST_NOT_SAY.iter().filter(|(module, ..)| module.is_empty() || file.is_in(module));
    let rules = rules.filter(|(_, words, _)| words[0] != "allow(unsafe_code)" || !file.path.starts_with(UNSAFE));
    rules
        .flat_map(|(_, words, why)| words.iter().map(move |word| (word, why)))
        .flat_map(|(word, why)| {
            let lines = code.lines().enumerate().filter(move |(_, line)| says(line, word));
            lines.map(move |(line, _)| format!("{}:{}: {word}: {why}", file.path, line + 1))
        })
        .collect()
}

/// `word` in `line`, not as the end of a longer name (`procfs::read` is not `fs::read`).
fn says(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        word.starts_with('.') || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

#[test]
fn the_init_resolves_no_other_name() {
    let of_init = files().into_iter().filter(|file| file.is_in("init"));
    let found: Vec<(String, Vec<&str>)> =
        of_init.map(|file| (file.path.clone(), by_name(&file))).filter(|(_, names)| !names.is_empty()).collect();
    let known: Vec<(String, Vec<&str>)> =
        NAMES_IN_INIT.iter().map(|(path, names, _)| ((*path).to_owned(), names.to_vec())).collect();
    assert_eq!(found, known);
}

/// What of `BY_NAME` a file takes from rustix, by `use` or where it calls it.
fn by_name(file: &File) -> Vec<&'static str> {
    let code = file.code();
    let mut words = BTreeSet::new();
    for (start, found) in code.match_indices("rustix::") {
        // `fs::{open, stat};` or `fs::open(…`
        let path = &code[start + found.len()..];
        let end = if code[..start].ends_with("use ") { ';' } else { '(' };
        let names = path.split(end).next().and_then(|path| path.split_once("::")).unwrap_or_default().1;
        words.extend(names.split(|c: char| !c.is_alphanumeric() && c != '_'));
    }
    BY_NAME.into_iter().filter(|name| words.contains(name)).collect()
}

#[test]
fn unsafe_is_below_sys_and_explained() {
    let wrongs = wrongs(unsafe_code);
    assert!(wrongs.is_empty(), "\n{wrongs}");
}

/// How far above `unsafe` its reason may begin.
const NEAR: usize = 8;

fn unsafe_code(file: &File) -> Vec<String> {
    let lines: Vec<&str> = file.text.lines().collect();
    let code = code_only(&file.text);
    let mut wrongs = Vec::new();
    for (index, line) in code.lines().enumerate() {
        if !line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe") {
            continue;
        }
        let place = format!("{}:{}", file.path, index + 1);
        if !file.path.starts_with(UNSAFE) {
            wrongs.push(format!("{place}: unsafe outside of {UNSAFE}"));
        } else if line.contains("unsafe {") || line.contains("unsafe impl") {
            let near = &lines[index.saturating_sub(NEAR)..=index];
            if !near.iter().any(|line| line.contains("SAFETY:")) {
                wrongs.push(format!("{place}: unsafe without a SAFETY comment"));
            }
        }
    }
    wrongs
}

/// How many places with `unsafe` there are beside tests. Whoever adds one reviews it, and says so here.
const UNSAFE_PLACES: usize = 54;

#[test]
fn unsafe_is_counted() {
    let places: Vec<String> = files().iter().flat_map(unsafe_places).collect();
    assert_eq!(places.len(), UNSAFE_PLACES, "\n{}", places.join("\n"));
}

/// Blocks, functions and implementations alike.
fn unsafe_places(file: &File) -> Vec<String> {
    let code = file.code();
    let lines = code
        .lines()
        .enumerate()
        .filter(|(_, line)| says(line, "unsafe {") || says(line, "unsafe impl") || says(line, "unsafe fn"));
    lines.map(|(line, _)| format!("{}:{}", file.path, line + 1)).collect()
}

#[test]
fn no_file_is_too_long() {
    let wrongs = wrongs(too_long);
    assert!(wrongs.is_empty(), "\n{wrongs}");
}

fn too_long(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    let wrong = lines > LONGEST && !GENERATED.contains(&file.path.as_str());
    wrong.then(|| format!("{}: {lines} lines, at most {LONGEST}", file.path)).into_iter().collect()
}

/// Every module's doc says what it owns.
#[test]
fn every_module_says_what_it_is() {
    let wrongs = wrongs(|file| {
        let said = file.text.starts_with("//!") || file.text.starts_with("#!");
        (!said).then(|| format!("{}: does not begin with //!", file.path)).into_iter().collect()
    });
    assert!(wrongs.is_empty(), "\n{wrongs}");
}

/// The checks themselves, on text that they must refuse.
mod checks {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    fn refused(path: &str, text: &str) -> Vec<String> {
        forbidden_uses(&file(path, text))
    }

    #[test]
    fn a_use_of_what_is_above() {
        let wrong = refused("src/init/tty.rs", "use crate::error::Result;\nuse crate::config::Config;\n");
        assert_eq!(wrong, ["src/init/tty.rs:2: init must not use crate::config::Config"]);
        assert_eq!(refused("src/sys/x.rs", "pub fn f() { crate::log::error(); }").len(), 1);
        assert_eq!(refused("src/error.rs", "use crate::sys;").len(), 1);
        assert_eq!(refused("src/plan/x.rs", "use crate::sys::proc;").len(), 1);
        assert_eq!(refused("src/new/x.rs", "use crate::error::Error;").len(), 1, "a module that has no rule");
    }

    #[test]
    fn a_name_that_is_resolved() {
        let names = |text: &str| by_name(&file("src/init/x.rs", text));
        assert_eq!(names("use rustix::fs::{CWD, Mode,\n    open};"), ["CWD", "open"]);
        assert_eq!(names("let fd = rustix::fs::stat(path)?;"), ["stat"]);
        assert_eq!(names("use rustix::mount::{UnmountFlags, unmount};"), ["unmount"]);
        assert_eq!(names("use rustix::fs::{Mode, openat};\n// rustix::fs::open()\nstat.open(x)"), [""; 0]);
    }

    #[test]
    fn a_part_is_not_the_whole() {
        assert!(refused("src/init/x.rs", "use crate::plan::step::Step;").is_empty());
        assert!(refused("src/init/x.rs", "use crate::launch::channel::{Channel, Message};").is_empty());
        for above in ["plan::Plan", "plan::stepladder::X", "launch::create", "plan", "plan::{create, step::Step}"] {
            assert_eq!(refused("src/init/x.rs", &format!("use crate::{above};")).len(), 1, "{above}");
        }
    }

    #[test]
    fn groups_renames_and_lines() {
        let text = "use crate::{\n    error::{self, Error},\n    host as machine,\n    sys::{proc, root::Root},\n};\n";
        assert_eq!(refused("src/init/x.rs", text), ["src/init/x.rs:1: init must not use crate::host"]);
        assert_eq!(refused("src/sys/x.rs", "pub use crate::cgroup as c;").len(), 1);
        assert_eq!(refused("src/sys/x.rs", "macro_rules! m { () => { $crate::cgroup::f() } }").len(), 1);
        assert_eq!(refused("src/sys/x.rs", "use crate :: cgroup :: v1;").len(), 1);
    }

    #[test]
    fn a_way_around_by_super() {
        assert_eq!(refused("src/init/tty.rs", "use super::super::config::Config;").len(), 1);
        assert_eq!(refused("src/hooks.rs", "use super::config::Config;").len(), 1);
        assert_eq!(refused("src/init/mod.rs", "use super::config::Config;").len(), 1);
        assert!(refused("src/init/tty.rs", "use super::device::make;").is_empty());
        assert!(refused("src/init/a/b.rs", "use super::super::device::make;").is_empty());
    }

    #[test]
    fn comments_text_and_tests_do_not_count() {
        let text = r####"
            // use crate::config::Config;
            /* crate::host /* nested crate::host */ crate::host */
            //! [`crate::config`]
            const A: &str = "crate::config \" crate::host";
            const B: &str = r#"crate::host " crate::config"#;
            const C: char = '"';
            fn f<'a>(a: &'a str) -> &'a str { a } // 'crate::host
            #[cfg(test)]
            mod tests { use crate::config::Config; fn g() { if true { crate::host::x() } } }
        "####;
        assert_eq!(refused("src/init/x.rs", text), [""; 0]);
        let after = format!("{text}\nuse crate::host::Host;");
        assert_eq!(refused("src/init/x.rs", &after), ["src/init/x.rs:12: init must not use crate::host::Host"]);
    }

    #[test]
    fn words() {
        let says = |path: &str, text: &str| forbidden_words(&file(path, text)).len();
        assert_eq!(says("src/init/x.rs", "fn f() { std::fs::write(a, b); }"), 1);
        assert_eq!(says("src/init/x.rs", "if path.exists() {}"), 1);
        assert_eq!(says("src/init/x.rs", "let c = Command::new(a);"), 1);
        assert_eq!(says("src/init/x.rs", "if path.is_dir() { eprintln!(); }"), 2);
        assert_eq!(says("src/init/x.rs", "let a = std::env::var_os(\"HOME\");"), 2);
        assert_eq!(says("src/sys/mount.rs", "let a = File::open(path)?;"), 1);
        assert_eq!(says("src/init/x.rs", "rustix::fs::fstat(&fd)?; reprint!(a); environ::f();"), 0);
        assert_eq!(says("src/init/x.rs", "// std::fs::write\nlet a = \"fs::write\";"), 0);
        assert_eq!(says("src/init/x.rs", "procfs::read(); rustix::fs::openat();"), 0);
        assert_eq!(says("src/state/x.rs", "std::fs::write(a, b)"), 0, "not this module's rule");
        assert_eq!(says("src/plan/x.rs", "use std::fs;\nuse rustix::fs::open;"), 2);
        assert_eq!(says("src/cgroup/x.rs", "std::thread::spawn(|| {})"), 1);
        assert_eq!(says("src/cgroup/x.rs", "#![allow(unsafe_code)]"), 1);
        assert_eq!(says("src/sys/x.rs", "#![allow(unsafe_code)]"), 0);
    }

    #[test]
    fn unsafe_words() {
        let wrong = |path: &str, text: &str| unsafe_code(&file(path, text)).len();
        assert_eq!(wrong("src/init/x.rs", "// SAFETY: none\nunsafe { f() }"), 1);
        assert_eq!(wrong("src/sys/x.rs", "unsafe { f() }"), 1);
        assert_eq!(wrong("src/sys/x.rs", "unsafe impl Send for X {}"), 1);
        assert_eq!(wrong("src/sys/x.rs", "// SAFETY: it is so\nunsafe { f() }"), 0);
        assert_eq!(wrong("src/sys/x.rs", &format!("// SAFETY: far\n{}unsafe {{ f() }}", "\n".repeat(NEAR))), 1);
        assert_eq!(wrong("src/init/x.rs", "// unsafe { }\nlet unsafe_code = \"unsafe\";"), 0);
    }

    #[test]
    fn unsafe_counts() {
        let count = |text: &str| unsafe_places(&file("src/sys/x.rs", text)).len();
        assert_eq!(count("unsafe { f() }\nunsafe impl Sync for X {}\npub unsafe fn g() {}"), 3);
        assert_eq!(count("// unsafe { f() }\nlet a = \"unsafe {\";\n#[unsafe(no_mangle)]\n#![allow(unsafe_code)]"), 0);
    }

    #[test]
    fn lengths() {
        let lines = |count: usize| "x\n".repeat(count);
        assert_eq!(too_long(&file("src/init/x.rs", &lines(LONGEST + 1))).len(), 1);
        assert_eq!(too_long(&file("src/init/x.rs", &lines(LONGEST))).len(), 0);
        assert_eq!(too_long(&file(GENERATED[0], &lines(LONGEST + 1))).len(), 0);
    }
}
