//! `start` in three dialects, `delete` and `-info`.

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::Request;

use crate::world::{World, context, kill, until};

/// `BootstrapParams` of containerd 2.3, written by hand: the crate's own messages are what the shim reads with.
pub(crate) fn params(world: &World) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut field = |number: u8, text: &[u8]| {
        bytes.extend([number << 3 | 2, u8::try_from(text.len()).unwrap()]);
        bytes.extend(text);
    };
    field(1, world.id.as_bytes());
    field(2, b"test");
    field(4, b"2.3.4");
    field(5, format!("unix://{}", world.path("events").display()).as_bytes());
    field(9, world.path("s").to_string_lossy().as_bytes());
    bytes
}

#[test]
fn plain() {
    let world = World::new("");
    // as Go would write it without omitempty
    std::fs::write(world.path("bundle/config.json"), r#"{"annotations": null}"#).unwrap();
    let shim = world.shim();
    shim.shut_down();
}

#[test]
fn json_of_no_higher_version_than_is_taken() {
    for (limit, version) in [("2", 2), ("3", 3)] {
        let world = World::new("");
        let mut command = world.command(&world.id, "start");
        command.env("MAX_SHIM_VERSION", limit);
        let output = World::run(command, &world.options().write_to_bytes().unwrap());
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((answer["version"].as_u64(), answer["protocol"].as_str()), (Some(version), Some("ttrpc")));
        world.connect(answer["address"].as_str().unwrap()).shut_down();
    }
}

#[test]
fn protobuf() {
    let world = World::deaf("exit 3");
    let mut command = world.command(&world.id, "start");
    // containerd says where events go
    command.env("MAX_SHIM_VERSION", "2").env_remove("TTRPC_ADDRESS");
    let output = World::run(command, &params(&world));
    // {1: 3, 2: the address, 3: "ttrpc"}
    let address = format!("unix://{}/", world.path("s").display());
    let length = address.len() + 64;
    let mut expected = vec![0x08, 3, 0x12, u8::try_from(length).unwrap()];
    expected.extend(address.as_bytes());
    assert_eq!(output.stdout[..expected.len()], expected, "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout[4 + length..], *b"\x1a\x05ttrpc");
    let shim = world.connect(std::str::from_utf8(&output.stdout[4..4 + length]).unwrap());
    world.listen();
    shim.task.create(context(), &world.create()).unwrap();
    shim.start("").unwrap();
    assert_eq!(shim.wait(""), 3);
    shim.delete("").unwrap();
    assert_eq!(world.events.first(4), ["create", "start", "exit init 3", "delete"]);
    shim.shut_down();
}

#[test]
fn both_versions_of_the_service() {
    let world = World::new("");
    let shim = world.shim();
    for (service, is_there) in [("v2", true), ("v3", true), ("v4", false)] {
        let service = format!("containerd.task.{service}.Task");
        let request = Request { service, method: "Connect".into(), timeout_nano: 60_000_000_000, ..Default::default() };
        assert_eq!(shim.client.request(request).is_ok(), is_there);
    }
    shim.shut_down();
}

#[test]
fn one_shim_for_a_pod() {
    let world = World::new("");
    let config = format!(r#"{{"annotations": {{"io.kubernetes.cri.sandbox-id": "{}"}}}}"#, world.id);
    std::fs::write(world.path("bundle/config.json"), config).unwrap();
    let shim = world.shim();
    let other = World::run(world.command("other", "start"), b"");
    assert_eq!(other.stdout, format!("unix://{}", shim.socket.display()).as_bytes());
    assert_eq!(world.text("bundle/address").as_bytes(), other.stdout);
    shim.shut_down();
}

#[test]
fn one_shim_whoever_is_first() {
    let world = World::new("");
    let shim = world.shim();
    kill(shim.pid, 9);
    until("it is gone", || std::os::unix::net::UnixStream::connect(&shim.socket).is_err());
    // its socket is still there, in the way of all
    let config = format!(r#"{{"annotations": {{"io.containerd.runc.v2.group": "{}"}}}}"#, world.id);
    let start = |number: u32| {
        let bundle = world.path(&format!("bundle-{number}"));
        std::fs::create_dir(&bundle).unwrap();
        std::fs::write(bundle.join("config.json"), &config).unwrap();
        let mut command = world.command(&format!("c{number}"), "start");
        command.current_dir(bundle);
        // a shim that somebody is connected to does not end by itself
        (World::run(command, b""), std::os::unix::net::UnixStream::connect(&shim.socket).unwrap())
    };
    let outputs: Vec<_> = std::thread::scope(|scope| {
        let start = &start;
        let starting: Vec<_> = (0..8).map(|number| scope.spawn(move || start(number))).collect();
        starting.into_iter().map(|start| start.join().unwrap()).collect()
    });
    for (output, _) in &outputs {
        let address = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(address, format!("unix://{}", shim.socket.display()), "{output:?}");
    }
    let argument = format!("-socket\0{}\0", shim.socket.display());
    let serves = |process: &std::io::Result<std::fs::DirEntry>| {
        let line = std::fs::read(process.as_ref().unwrap().path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&argument)
    };
    assert_eq!(std::fs::read_dir("/proc").unwrap().filter(serves).count(), 1);
    world.connect(&format!("unix://{}", shim.socket.display())).shut_down();
}

#[test]
fn mistakes_leave_nothing() {
    let world = World::new("");
    for stdin in [&b"\xff\xff"[..], b"\x0a\x0dother.Options"] {
        let output = World::run(world.command(&world.id, "start"), stdin);
        assert!(!output.status.success() && output.stdout.is_empty());
    }
    let output = World::run(world.command("../escape", "start"), b"");
    assert!(!output.status.success());
    assert!(!world.path("bundle/address").exists());
}
