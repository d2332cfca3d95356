//! What the processes of containers read and write: what containerd asks for, made into the three open files that a
//! runtime hands to a process, or into its terminal's other side.
//!
//! The files that a process gets are pipes of ours and not containerd's FIFOs, of which SELinux and AppArmor would
//! say that they are none of the container's.

mod console;
mod fifo;
mod output;
mod relay;

use std::cell::{Cell, RefCell};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use containerd_shim_protos::api::{CreateTaskRequest, ExecProcessRequest};
use ferrun::error::{Call, Error, Result};
use rustix::fs::{Mode, OFlags, fchown, open};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Uid};
use tokio::io::Interest;
use tokio::task::spawn_local;

pub(crate) use console::Socket as ConsoleSocket;
use output::{Outputs, Sink};
use relay::{End, relay};

use crate::logger;

/// What containerd asks for: paths of FIFOs, or for output the URI of a log. Empty: none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) terminal: bool,
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Wanted {
    pub(crate) fn of_task(request: &CreateTaskRequest) -> Self {
        let CreateTaskRequest { terminal, stdin, stdout, stderr, .. } = request;
        Self { terminal: *terminal, stdin: stdin.clone(), stdout: stdout.clone(), stderr: stderr.clone() }
    }

    pub(crate) fn of_exec(request: &ExecProcessRequest) -> Self {
        let ExecProcessRequest { terminal, stdin, stdout, stderr, .. } = request;
        Self { terminal: *terminal, stdin: stdin.clone(), stdout: stdout.clone(), stderr: stderr.clone() }
    }
}

/// Whose it is: what a logging program is told, and who owns the pipes.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) namespace: String,
    pub(crate) id: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// The files for the process. None: /dev/null.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// Our side, from before the process is made until it is deleted.
#[derive(Debug, Default)]
pub(crate) struct Io {
    /// The FIFO's writing end: while it is open, a client that goes does not end the input.
    stdin: RefCell<Option<OwnedFd>>,
    /// What the terminal is joined to, until there is one.
    awaited: RefCell<Option<Ends>>,
    console: RefCell<Option<console::Console>>,
    outputs: Outputs,
}

/// What a terminal is to be joined to.
#[derive(Debug)]
struct Ends {
    input: Option<OwnedFd>,
    output: Option<Sink>,
}

impl Io {
    /// Opens what is wanted. Nothing is moved before [`Io::join`] for a terminal.
    ///
    /// # Errors
    /// A file that cannot be opened, a logging program that does not get ready.
    pub(crate) async fn open(wanted: &Wanted, owner: &Owner) -> Result<(Self, Files)> {
        let io = Self::default();
        let input = io.open_input(&wanted.stdin)?;
        let (stdout, stderr) = open_outputs(wanted, owner).await?;
        if wanted.terminal {
            io.awaited.replace(Some(Ends { input, output: stdout }));
            return Ok((io, Files::default()));
        }
        let mut files = Files::default();
        if let Some(input) = input {
            let (reader, writer) = pipe(owner)?;
            io.relay_input(input, writer)?;
            files.stdin = Some(reader);
        }
        files.stdout = stdout.map(|sink| io.join_output(sink, owner)).transpose()?;
        files.stderr = stderr.map(|sink| io.join_output(sink, owner)).transpose()?;
        Ok((io, files))
    }

    fn open_input(&self, path: &str) -> Result<Option<OwnedFd>> {
        if path.is_empty() {
            return Ok(None);
        }
        let fifo = fifo::open_both(Path::new(path))?.ok_or_else(|| Error::new(format!("stdin {path} is no FIFO")))?;
        let reader = fifo::reopen(fifo.as_fd(), OFlags::RDONLY)?;
        self.stdin.replace(Some(fifo::reopen(fifo.as_fd(), OFlags::WRONLY)?));
        Ok(Some(reader))
    }

    fn relay_input(&self, from: OwnedFd, to: OwnedFd) -> Result<()> {
        let source = End::new(from, Interest::READABLE).call(|| "watch stdin".to_owned())?;
        let sink = End::new(to, Interest::WRITABLE).call(|| "watch stdin".to_owned())?;
        let brake = Rc::clone(&self.outputs.brake);
        spawn_local(async move {
            let moved = Cell::new(0);
            tokio::select! {
                _ = relay(&source, &sink, &brake, &moved) => {}
                // what the process did not read is nobody's any more
                () = brake.pulled() => {}
            }
        });
        Ok(())
    }

    /// The file for the process: the sink itself, or a pipe whose other end is relayed to a FIFO.
    fn join_output(&self, sink: Sink, owner: &Owner) -> Result<OwnedFd> {
        match sink {
            Sink::Other(fd) => Ok(fd),
            sink => {
                let (reader, writer) = pipe(owner)?;
                self.outputs.add(reader, sink)?;
                Ok(writer)
            }
        }
    }

    /// Joins the terminal of the process to what was asked for.
    pub(crate) fn join(&self, master: OwnedFd) -> Result<()> {
        let Some(Ends { input, output }) = self.awaited.take() else {
            return Err(Error::new("a terminal that nobody asked for"));
        };
        let console = console::Console::new(master)?;
        if let Some(input) = input {
            self.relay_input(input, console.side()?)?;
        }
        if let Some(sink) = output {
            let sink = match sink {
                Sink::Other(fd) if !is_pipe(&fd) => Sink::File(fd.into()),
                sink => sink,
            };
            self.outputs.add(console.side()?, sink)?;
        }
        self.console.replace(Some(console));
        Ok(())
    }

    /// The process has ended: its terminal hangs up when all others have closed it. Returns when what it wrote has
    /// been read, or nobody reads.
    pub(crate) async fn ended(&self) {
        if let Some(console) = &*self.console.borrow() {
            console.let_hang_up();
        }
        self.outputs.settle().await;
    }

    /// # Errors
    /// ioctl(2). Without a terminal it does nothing.
    pub(crate) fn resize(&self, columns: u16, rows: u16) -> Result<()> {
        self.console.borrow().as_ref().map_or(Ok(()), |console| console.resize(columns, rows))
    }

    /// No more input than what has been written to the FIFO, once its writers have closed it.
    pub(crate) fn close_input(&self) {
        self.stdin.take();
    }

    /// Lets what was written go out, then closes all.
    pub(crate) async fn close(&self) {
        self.close_input();
        self.outputs.close().await;
        self.awaited.take();
        self.console.take();
    }
}

impl Drop for Io {
    /// Of a process that was not made after all too: its relays end.
    fn drop(&mut self) {
        self.outputs.brake.pull();
    }
}

/// Both outputs; with a terminal they are one.
async fn open_outputs(wanted: &Wanted, owner: &Owner) -> Result<(Option<Sink>, Option<Sink>)> {
    let failed = |failure: crate::failure::Failure| Error::new(failure.words);
    match wanted.stdout.split_once("://") {
        Some(("binary" | "binary-v2", _)) => {
            let program = logger::program(&wanted.stdout, &owner.namespace, &owner.id).await.map_err(failed)?;
            Ok((Some(Sink::Other(program.stdout)), Some(Sink::Other(program.stderr))))
        }
        Some(("file", _)) => {
            let stderr = if wanted.stderr.is_empty() { &wanted.stdout } else { &wanted.stderr };
            let stdout = logger::file(&wanted.stdout).map_err(failed)?;
            Ok((Some(Sink::Other(stdout)), Some(Sink::Other(logger::file(stderr).map_err(failed)?))))
        }
        Some(("fifo", path)) => Ok((open_output(path)?, open_output(wanted.stderr.trim_start_matches("fifo://"))?)),
        Some((scheme, _)) => Err(Error::new(format!("stdout {}: the scheme {scheme} is not known", wanted.stdout))),
        None => Ok((open_output(&wanted.stdout)?, open_output(&wanted.stderr)?)),
    }
}

/// A FIFO, or a file to append to.
fn open_output(path: &str) -> Result<Option<Sink>> {
    if path.is_empty() {
        return Ok(None);
    }
    if let Some(fifo) = fifo::open_both(Path::new(path))? {
        return Ok(Some(Sink::Fifo(fifo)));
    }
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = open(path, flags, Mode::from_raw_mode(0o600)).call(|| format!("open {path}"))?;
    Ok(Some(Sink::Other(file)))
}

fn is_pipe(fd: &OwnedFd) -> bool {
    rustix::fs::fstat(fd).is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_fifo())
}

/// A pipe for a process: its end belongs to whom the options say. Ours does not block.
fn pipe(owner: &Owner) -> Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).call(|| "pipe".to_owned())?;
    if (owner.uid, owner.gid) != (0, 0) {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        fchown(&reader, Some(uid), Some(gid)).call(|| "chown a pipe".to_owned())?;
    }
    Ok((reader, writer))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pty::{OpenptFlags, openpt, unlockpt};
    use std::io::Write;

    /// What becomes of all that is written to a terminal whose output goes to `stdout`.
    fn say(stdout: &str, text: &[u8]) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let owner = Owner { namespace: "n".into(), id: "c".into(), uid: 0, gid: 0 };
        let wanted = Wanted { terminal: true, stdout: stdout.to_owned(), ..Wanted::default() };
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (io, _) = Io::open(&wanted, &owner).await.expect("io");
            let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("terminal");
            unlockpt(&master).expect("unlock");
            let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
            let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags).expect("slave");
            io.join(master).expect("joined");
            let mut slave = std::fs::File::from(slave);
            let text = text.to_owned();
            // more than a terminal holds: it goes on only when somebody reads
            let writer = std::thread::spawn(move || slave.write_all(&text));
            let finished = async {
                while !writer.is_finished() {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            };
            // much longer than it takes: only a failure waits for it
            tokio::time::timeout(std::time::Duration::from_secs(120), finished).await.expect("somebody reads");
            writer.join().expect("thread").expect("written");
            io.ended().await;
            io.close().await;
        });
    }

    #[test]
    fn a_terminal_s_output_is_appended_to_a_file() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("log");
        std::fs::write(&path, "before ").expect("file");
        let text = vec![b'x'; 300_000];
        say(&format!("file://{}", path.display()), &text);
        assert!(std::fs::read(&path).expect("log") == [b"before ", &text[..]].concat());
        // a plain path is a file to append to as well
        say(&path.to_string_lossy(), b"after");
        assert!(std::fs::read(&path).expect("log").ends_with(b"xafter"));
    }
}
