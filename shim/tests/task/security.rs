//! Who is kept out, what is bounded, and what is not done though somebody writes it where it may be read.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;

use containerd_shim_protos::api::{ConnectRequest, CreateTaskRequest, ExecProcessRequest};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc::{Code, Request};
use rustix::process::Uid;

use crate::bootstrap::params;
use crate::world::{SHIM, Shim, World, context, files, refused};

/// A shim whose sockets are in the world's own directory `s`.
fn shim(world: &World) -> Shim {
    let output = World::run(world.command(&world.id, "start"), &params(world));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let address = &text[text.find("unix://").expect(&text)..text.rfind("\u{1a}").unwrap()];
    world.connect(address)
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// CVE-2020-15257.
#[test]
fn its_sockets_have_a_place_that_others_do_not_reach() {
    let world = World::new("exec sleep 1000");
    let shim = shim(&world);
    shim.task.create(context(), &world.create()).unwrap();
    // the connection to the one that it tells its events is there by now
    world.events.first(1);
    assert_eq!((mode(&world.path("s")), mode(&shim.socket)), (0o700, 0o600));
    let inodes: Vec<String> = shim
        .files()
        .iter()
        .filter_map(|file| Some(file.strip_prefix("socket:[")?.trim_end_matches(']').into()))
        .collect();
    let text = std::fs::read_to_string("/proc/net/unix").unwrap();
    // number, references, protocol, flags, type, state, inode, and a path or none
    let sockets: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let named: Vec<&str> = sockets
        .iter()
        .filter(|socket| inodes.iter().any(|inode| socket.get(6) == Some(&inode.as_str())))
        .filter_map(|socket| socket.get(7).copied())
        .collect();
    // the one that listens, and the connection of ours
    assert!(named.len() >= 2, "{named:?} of {inodes:?}");
    assert!(named.iter().all(|name| Path::new(name) == shim.socket), "{named:?}");
    shim.delete("").unwrap();
    shim.shut_down();
}

fn frame(method: &str, payload: &[u8]) -> Vec<u8> {
    let (service, method, payload) = ("containerd.task.v2.Task".into(), method.into(), payload.to_vec());
    let request = Request { service, method, payload, ..Default::default() }.write_to_bytes().unwrap();
    let mut frame = u32::try_from(request.len()).unwrap().to_be_bytes().to_vec();
    frame.extend([0, 0, 0, 1, 1, 0]);
    frame.extend(request);
    frame
}

/// What a user who asks hears.
fn ask(uid: u32, socket: &Path, id: &str) -> Vec<u8> {
    let frame = frame("Connect", &ConnectRequest { id: id.into(), ..Default::default() }.write_to_bytes().unwrap());
    let ask = || {
        let uid = Uid::from_raw(uid);
        // of this thread alone
        rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
        let mut connection = UnixStream::connect(socket).unwrap();
        let mut header = [0; 10];
        // it may have been closed already
        let heard = connection.write_all(&frame).and_then(|()| connection.read(&mut header)).unwrap_or(0);
        header[..heard].to_vec()
    };
    std::thread::scope(|scope| scope.spawn(ask).join().unwrap())
}

#[test]
fn another_user_is_not_answered_though_the_modes_let_him_in() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let world = World::new("");
    let shim = shim(&world);
    for (path, mode) in [(world.directory.path(), 0o711), (&world.path("s"), 0o711), (&shim.socket, 0o666)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    assert_eq!(ask(65534, &shim.socket, &world.id), b"");
    assert_eq!(ask(0, &shim.socket, &world.id)[4..9], [0, 0, 0, 1, 2]);
    shim.shut_down();
}

/// Each method, with what is no message for it, and with what is one and says nothing sensible.
#[test]
fn nonsense_is_refused() {
    let world = World::new("exec sleep 1000");
    let shim = world.shim();
    shim.task.create(context(), &world.create()).unwrap();
    let methods = [
        "State",
        "Create",
        "Start",
        "Delete",
        "Pids",
        "Pause",
        "Resume",
        "Checkpoint",
        "Kill",
        "Exec",
        "ResizePty",
        "CloseIO",
        "Update",
        "Wait",
        "Stats",
        "Connect",
        "Nothing",
        "",
    ];
    // a length that is not there, a group that does not end, numbers where strings are, strings where numbers are, an
    // id that leads out, one that is no text
    let payloads: [&[u8]; 7] =
        [b"\x0a\xff", b"\x0b", b"\x08\x01", b"\x1a\x03abc\x22\x01x", b"\x0a\x05../..", b"\x0a\x01\xff", &[0xff; 64]];
    let mut connection = UnixStream::connect(&shim.socket).unwrap();
    for method in methods {
        for payload in payloads {
            connection.write_all(&frame(method, payload)).unwrap();
            let mut header = [0; 10];
            connection.read_exact(&mut header).unwrap();
            let length = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
            std::io::copy(&mut (&connection).take(length.into()), &mut std::io::sink()).unwrap();
        }
    }
    for frame in [
        &b"\0\0\0\x02\0\0\0\x01\x01\0\xff\xff"[..],
        b"\0\0\0\0\0\0\0\x01\x07\0",
        b"\xff\xff\xff\xff\0\0\0\x01\x01\0",
        b"\0",
    ] {
        let _ = connection.write_all(frame); // a frame that is too long ends the connection
    }
    let numbers = |exec: &str, signal| refused(shim.kill(exec, signal));
    numbers("", u32::MAX);
    shim.start("").unwrap();
    shim.exec("e", "exec sleep 1000").unwrap();
    shim.start("e").unwrap();
    for signal in [65, 1 << 31, u32::MAX] {
        numbers("e", signal);
    }
    for id in ["", ".", "..", "../e", "a/b", "a\nb", &"e".repeat(5000)] {
        assert_eq!(refused(shim.exec(id, "")).0, Code::INVALID_ARGUMENT, "{id}");
        let request = CreateTaskRequest { id: id.into(), ..world.create() };
        assert_eq!(refused(shim.task.create(context(), &request)).0, Code::INVALID_ARGUMENT, "{id}");
    }
    shim.kill("e", 9).unwrap();
    assert_eq!(shim.wait("e"), 137);
    shim.kill("", 9).unwrap();
    assert_eq!(shim.wait(""), 137);
    shim.delete("").unwrap();
    shim.shut_down();
}

#[test]
fn what_the_caller_left_open_reaches_nobody() {
    let world = World::new("exec sleep 1000");
    let plain = world.command(&world.id, "start");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec 9< config.json; exec \"$0\" \"$@\"", SHIM]).args(plain.get_args());
    command.current_dir(plain.get_current_dir().unwrap());
    command.env_remove("MAX_SHIM_VERSION").env("TTRPC_ADDRESS", world.path("events"));
    let output = World::run(command, &world.options().write_to_bytes().unwrap());
    let shim = world.connect(std::str::from_utf8(&output.stdout).unwrap());
    assert!(!shim.files().iter().any(|file| file.ends_with("config.json")), "{:?}", shim.files());
    let pid = shim.task.create(context(), &world.create()).unwrap().pid;
    shim.start("").unwrap();
    // nor does what the shim itself has open; the program is read by its shell
    let own = world.path("root");
    let foreign = |file: &String| file != "/dev/null" && !Path::new(file).starts_with(&own);
    assert!(!files(pid).iter().any(foreign), "{:?}", files(pid));
    shim.kill("", 9).unwrap();
    shim.wait("");
    shim.delete("").unwrap();
    shim.shut_down();
}

/// Bytes: the most that it ever had.
fn peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// CVE-2022-31030.
#[test]
fn a_gigabyte_of_output_takes_no_memory() {
    const LENGTH: u64 = 1 << 30;
    let world = World::new("exec sleep 1000");
    let stdout = world.fifo("stdout");
    let shim = world.shim();
    shim.task.create(context(), &world.create()).unwrap();
    shim.start("").unwrap();
    let before = peak(shim.pid);
    let spec = Any { value: format!("head -c {LENGTH} /dev/zero").into(), ..Any::default() };
    let request = ExecProcessRequest {
        id: world.id.clone(),
        exec_id: "e".into(),
        stdout: stdout.clone(),
        spec: Some(spec).into(),
        ..ExecProcessRequest::default()
    };
    let reader = std::thread::spawn(move || {
        std::io::copy(&mut std::fs::File::open(stdout).unwrap(), &mut std::io::sink()).unwrap()
    });
    shim.task.exec(context(), &request).unwrap();
    shim.start("e").unwrap();
    assert_eq!(reader.join().unwrap(), LENGTH);
    assert_eq!(shim.wait("e"), 0);
    let grown = peak(shim.pid) - before;
    assert!(grown < 4 << 20, "{grown} bytes more");
    shim.delete("e").unwrap();
    shim.kill("", 9).unwrap();
    shim.wait("");
    shim.delete("").unwrap();
    shim.shut_down();
}

/// CVE-2026-53488 and its like: a logging program is started for who asks for one as stdout, and for nobody else.
#[test]
fn no_logging_program_that_was_not_asked_for() {
    let world = World::new("");
    let (program, trace) = (world.path("logger"), world.path("was-here"));
    std::fs::write(&program, format!("#!/bin/sh\n: > '{}'\n", trace.display())).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let uri = format!("binary://{}", program.display());
    // what an image's labels become
    let config = serde_json::json!({
        "annotations": {"nerdctl/log-uri": &uri, "io.containerd.log-uri": &uri, "io.kubernetes.cri.log": &uri}
    });
    std::fs::write(world.path("bundle/config.json"), config.to_string()).unwrap();
    let shim = world.shim();
    let fifo = world.fifo("stdout");
    for request in [
        CreateTaskRequest { stdin: uri.clone(), ..world.create() },
        CreateTaskRequest { stderr: uri.clone(), ..world.create() },
        CreateTaskRequest { stdout: fifo, stderr: uri.clone(), ..world.create() },
    ] {
        refused(shim.task.create(context(), &request));
    }
    shim.task.create(context(), &world.create()).unwrap();
    shim.start("").unwrap();
    assert_eq!(shim.wait(""), 0);
    shim.delete("").unwrap();
    assert!(!trace.exists());
    // and it would have been
    shim.task.create(context(), &CreateTaskRequest { stdout: uri, ..world.create() }).unwrap();
    assert!(trace.exists());
    shim.delete("").unwrap();
    shim.shut_down();
}
