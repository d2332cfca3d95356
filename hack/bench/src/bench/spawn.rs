//! One process from spawn to reap, with as little of the harness as possible in the measured time.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{Error, Read, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::Res;

/// Longer than any verb may take: a runtime that hangs must end the bench, loudly.
const DEADLINE_S: u32 = 30;

static LATE: AtomicBool = AtomicBool::new(false);

/// A prepared command line.
pub(crate) struct Command {
    words: Vec<CString>,
}

impl Command {
    pub(crate) fn new<S: AsRef<str>>(words: &[S]) -> Res<Command> {
        let words = words.iter().map(|word| CString::new(word.as_ref()).map_err(|e| e.to_string()));
        Ok(Command { words: words.collect::<Res<_>>()? })
    }

    fn text(&self) -> String {
        self.words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) wall_ns: u64,
    /// User + system time of the process and of whatever it waited for.
    pub(crate) cpu_us: u64,
}

/// What every spawned process shares: /dev/null as stdin and stdout, a file for stderr, clean signals.
pub(crate) struct Spawner {
    null: File,
    stderr: File,
    actions: libc::posix_spawn_file_actions_t,
    attributes: libc::posix_spawnattr_t,
}

impl Spawner {
    pub(crate) fn new(stderr: &Path) -> Res<Spawner> {
        let open = |path: &Path, make| {
            let file = OpenOptions::new().read(true).append(true).create(make).open(path);
            file.map_err(|e| format!("{}: {e}", path.display()))
        };
        // SAFETY: both are plain data that the init calls below fill.
        let (actions, attributes) = unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        let mut spawner =
            Spawner { null: open(Path::new("/dev/null"), false)?, stderr: open(stderr, true)?, actions, attributes };
        spawner.prepare();
        Ok(spawner)
    }

    fn prepare(&mut self) {
        let (null, stderr) = (self.null.as_raw_fd(), self.stderr.as_raw_fd());
        // SAFETY: every pointer is to a live field of self or a live local; the fds stay open as long as self.
        unsafe {
            libc::posix_spawn_file_actions_init(&mut self.actions);
            for (fd, target) in [(null, 0), (null, 1), (stderr, 2)] {
                libc::posix_spawn_file_actions_adddup2(&mut self.actions, fd, target);
            }
            libc::posix_spawnattr_init(&mut self.attributes);
            // Rust ignores SIGPIPE; a runtime and its container must not inherit that.
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGPIPE);
            libc::posix_spawnattr_setsigdefault(&mut self.attributes, &set);
            libc::posix_spawnattr_setflags(&mut self.attributes, libc::POSIX_SPAWN_SETSIGDEF as libc::c_short);
            // Without SA_RESTART: the point is to interrupt wait4.
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_alarm as *const () as usize;
            libc::sigaction(libc::SIGALRM, &action, null_mut());
        }
    }

    /// Runs the command to its end; anything but exit status 0 is an error with its last words.
    pub(crate) fn run(&mut self, command: &Command) -> Res<Sample> {
        self.run_to(command, 0)
    }

    pub(crate) fn run_to(&mut self, command: &Command, wanted: i32) -> Res<Sample> {
        let mut argv: Vec<*mut libc::c_char> = command.words.iter().map(|w| w.as_ptr().cast_mut()).collect();
        argv.push(null_mut());
        let (mut pid, mut status) = (0, 0);
        // SAFETY: argv is null-terminated and, like environ, made of C strings that outlive the calls; rusage is plain
        // integers; wait4 gets pointers to live variables. musl's posix_spawn is clone(VM|VFORK), so nothing of this
        // process is copied.
        let (wall, reaped, usage) = unsafe {
            let mut usage: libc::rusage = std::mem::zeroed();
            libc::alarm(DEADLINE_S);
            let begin = Instant::now();
            let failed = libc::posix_spawn(
                &mut pid,
                argv[0],
                &self.actions,
                &self.attributes,
                argv.as_ptr(),
                environ.cast_const(),
            );
            if failed != 0 {
                return Err(format!("{}: {}", command.text(), Error::from_raw_os_error(failed)));
            }
            let reaped = libc::wait4(pid, &mut status, 0, &mut usage);
            let wall = begin.elapsed();
            libc::alarm(0);
            (wall, reaped, usage)
        };
        if reaped != pid {
            // The supervisor ends the pid namespace, and the hung process with it.
            let late = if LATE.load(Ordering::Relaxed) { " (hung)" } else { "" };
            return Err(format!("{}: not ended after {DEADLINE_S} s{late}: {}", command.text(), self.last_words()));
        }
        if !(libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == wanted) {
            return Err(format!(
                "{}: {}, not exit status {wanted}: {}",
                command.text(),
                ending(status),
                self.last_words()
            ));
        }
        let micros = |t: libc::timeval| t.tv_sec as u64 * 1_000_000 + t.tv_usec as u64;
        Ok(Sample { wall_ns: wall.as_nanos() as u64, cpu_us: micros(usage.ru_utime) + micros(usage.ru_stime) })
    }

    fn last_words(&mut self) -> String {
        let mut text = String::new();
        let _ = self.stderr.seek(SeekFrom::Start(0)).and_then(|_| self.stderr.read_to_string(&mut text));
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(5)..].join("\n")
    }
}

extern "C" fn on_alarm(_: libc::c_int) {
    LATE.store(true, Ordering::Relaxed);
}

fn ending(status: i32) -> String {
    if libc::WIFEXITED(status) {
        format!("exit status {}", libc::WEXITSTATUS(status))
    } else {
        format!("killed by signal {}", libc::WTERMSIG(status))
    }
}

/// As PID 1 we inherit every init of a `create`: waits until this one is dead and reaped.
pub(crate) fn reap(pid: i32) -> Res<()> {
    let begin = Instant::now();
    loop {
        // SAFETY: no pointers.
        match unsafe { libc::waitpid(pid, null_mut(), libc::WNOHANG) } {
            0 if begin.elapsed() > Duration::from_secs(5) => {
                return Err(format!("pid {pid} outlives SIGKILL"));
            }
            0 => std::thread::sleep(Duration::from_micros(100)),
            reaped if reaped == pid => return Ok(()),
            _ => return Err(format!("pid {pid}: {}", Error::last_os_error())),
        }
    }
}

/// Whatever else was left to PID 1 and has ended.
pub(crate) fn reap_strays() {
    // SAFETY: no pointers.
    while unsafe { libc::waitpid(-1, null_mut(), libc::WNOHANG) } > 0 {}
}

/// The processes under test inherit it all: less noise from others, the same for everybody.
pub(crate) fn raise_priority() -> String {
    // SAFETY: no pointers.
    let nice = unsafe {
        libc::setsid();
        libc::setpriority(libc::PRIO_PROCESS as _, 0, -19)
    };
    let autogroup = std::fs::write("/proc/self/autogroup", "-20");
    let word = |ok| if ok { "yes" } else { "refused" };
    format!("nice -19: {}, autogroup -20: {}", word(nice == 0), word(autogroup.is_ok()))
}

unsafe extern "C" {
    static mut environ: *mut *mut libc::c_char;
}
