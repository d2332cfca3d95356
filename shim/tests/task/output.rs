//! Nothing that was written is lost, and nobody who does not read holds anything up.

use std::fs::OpenOptions;
use std::io::Read;

use containerd_shim_protos::api::{CloseIORequest, CreateTaskRequest};

use crate::world::{World, context, until};

/// As much as a pipe holds.
const PIPE: usize = 64 << 10;

#[test]
fn all_of_it_comes() {
    let world = World::new("head -c 3000000 /dev/zero; echo over >&2");
    let (stdout, stderr) = (world.fifo("stdout"), world.fifo("stderr"));
    let shim = world.shim();
    let request = CreateTaskRequest { stdout: stdout.clone(), stderr: stderr.clone(), ..world.create() };
    let reader = std::thread::spawn(move || std::fs::read(stdout).unwrap());
    let errors = std::thread::spawn(move || std::fs::read(stderr).unwrap());
    shim.task.create(context(), &request).unwrap();
    shim.start("").unwrap();
    // up to the end of the file
    assert_eq!(reader.join().unwrap().len(), 3_000_000);
    assert_eq!(errors.join().unwrap(), b"over\n");
    assert_eq!(shim.wait(""), 0);
    shim.delete("").unwrap();
    shim.shut_down();
}

#[test]
fn who_comes_late_reads_it_too() {
    let world = World::new(&format!("head -c {PIPE} /dev/zero"));
    let stdout = world.fifo("stdout");
    let shim = world.shim();
    shim.task.create(context(), &CreateTaskRequest { stdout: stdout.clone(), ..world.create() }).unwrap();
    shim.start("").unwrap();
    // a reader that goes away, as a containerd that is restarted
    drop(OpenOptions::new().read(true).open(&stdout).unwrap());
    assert_eq!(shim.wait(""), 0);
    assert_eq!(std::fs::read(&stdout).unwrap().len(), PIPE);
    shim.delete("").unwrap();
    shim.shut_down();
}

#[test]
fn a_reader_that_stops_stops_nothing_else() {
    let world = World::new("while :; do echo some; done");
    let stdout = world.fifo("stdout");
    let shim = world.shim();
    shim.task.create(context(), &CreateTaskRequest { stdout: stdout.clone(), ..world.create() }).unwrap();
    shim.start("").unwrap();
    let mut reader = OpenOptions::new().read(true).open(&stdout).unwrap();
    reader.read_exact(&mut [0; 2 * PIPE]).unwrap();
    shim.exec("e", "exit 3").unwrap();
    shim.start("e").unwrap();
    assert_eq!(shim.wait("e"), 3);
    shim.kill("", 9).unwrap();
    assert_eq!(shim.wait(""), 137);
    shim.delete("").unwrap();
    // nor is anything kept for it for ever; of a shim that has ended there are no files at all
    let is_closed = |files: Vec<String>| !files.is_empty() && !files.iter().any(|file| file.ends_with("/stdout"));
    until("the FIFO is closed", || is_closed(shim.files()));
    // at its end there is an end
    reader.read_to_end(&mut Vec::new()).unwrap();
    shim.shut_down();
}

#[test]
fn input_ends_when_it_is_closed() {
    let world = World::new("cat");
    let (stdin, stdout) = (world.fifo("stdin"), world.fifo("stdout"));
    let shim = world.shim();
    let request = CreateTaskRequest { stdin: stdin.clone(), stdout: stdout.clone(), ..world.create() };
    let reader = std::thread::spawn(move || std::fs::read(stdout).unwrap());
    shim.task.create(context(), &request).unwrap();
    shim.start("").unwrap();
    // one client goes, another comes
    for text in ["one ", "two"] {
        std::fs::write(&stdin, text).unwrap();
    }
    let close = CloseIORequest { id: world.id.clone(), stdin: true, ..Default::default() };
    shim.task.close_io(context(), &close).unwrap();
    assert_eq!(reader.join().unwrap(), b"one two");
    assert_eq!(shim.wait(""), 0);
    shim.delete("").unwrap();
    shim.shut_down();
}

#[test]
fn a_file_is_appended_to() {
    let world = World::new("echo out; echo err >&2");
    let log = world.path("log.txt");
    std::fs::write(&log, "before\n").unwrap();
    let uri = format!("file://{}", log.display());
    let shim = world.shim();
    let request = CreateTaskRequest { stdout: uri.clone(), stderr: uri, ..world.create() };
    shim.task.create(context(), &request).unwrap();
    shim.start("").unwrap();
    assert_eq!(shim.wait(""), 0);
    assert_eq!(std::fs::read_to_string(log).unwrap(), "before\nout\nerr\n");
    shim.delete("").unwrap();
    shim.shut_down();
}
