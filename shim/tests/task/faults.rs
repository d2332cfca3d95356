//! Somebody is killed.

use std::os::unix::fs::PermissionsExt;

use containerd_shim_protos::api::{CreateTaskRequest, DeleteResponse, ExecProcessRequest, StateRequest, Status};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc::Code;

use crate::world::{World, context, kill, refused, until};

fn ends(pid: &str) -> bool {
    // a zombie whose parent does not care has ended too
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
    stat.map_or(true, |stat| stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

#[test]
fn the_shim_while_the_runtime_works() {
    let world = World::new("");
    std::fs::write(world.path("bundle/hang"), "").unwrap();
    let shim = world.shim();
    let (task, request) = (shim.task.clone(), world.create());
    let creating = std::thread::spawn(move || task.create(context(), &request));
    let hanging = world.path("bundle/hanging");
    until("the runtime works", || std::fs::read_to_string(&hanging).is_ok_and(|pid| pid.ends_with('\n')));
    kill(shim.pid, 9);
    assert!(creating.join().unwrap().is_err());
    // it would go on in a root file system that is about to be unmounted
    until("the runtime ends with it", || ends(&world.text("bundle/hanging")));
}

#[test]
fn the_shim_and_then_delete_tells_what_is_known() {
    let world = World::new("exit 5");
    let shim = world.shim();
    let pid = shim.task.create(context(), &world.create()).unwrap().pid;
    shim.start("").unwrap();
    assert_eq!(shim.wait(""), 5);
    kill(shim.pid, 9);
    until("it is gone", || std::os::unix::net::UnixStream::connect(&shim.socket).is_err());
    let output = World::run(world.command(&world.id, "delete"), b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let response = DeleteResponse::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!((response.pid, response.exit_status), (pid, 5));
    assert!(!shim.socket.exists());
    assert!(!world.path("root/test").join(&world.id).exists());
}

#[test]
fn files_of_a_bundle_are_damaged() {
    let world = World::new("exit 5");
    let shim = world.shim();
    shim.task.create(context(), &world.create()).unwrap();
    kill(shim.pid, 9);
    until("it is gone", || std::os::unix::net::UnixStream::connect(&shim.socket).is_err());
    let exit = r#"{"status": 5, "seconds": 18446744073709551615, "nanos": 4294967295}"#;
    for (exit, pid, status) in [(exit, "-7", 5), ("{", "x", 137), ("", "\u{ff}", 137)] {
        std::fs::write(world.path("bundle/exit.json"), exit).unwrap();
        std::fs::write(world.path("bundle/init.pid"), pid).unwrap();
        std::fs::write(world.path("bundle/address"), "unix://\0").unwrap();
        let output = World::run(world.command(&world.id, "delete"), b"");
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            let response = DeleteResponse::parse_from_bytes(&output.stdout).unwrap();
            assert_eq!((response.pid, response.exit_status), (0, status), "{said}");
            assert!(response.exited_at.seconds > 0);
        } else {
            // the second time there is none any more, which the stand-in says as runc without --force does
            assert!(said.ends_with("container does not exist\n"), "{said}");
        }
    }
}

#[test]
fn the_shim_of_one_that_runs() {
    let world = World::new("exec sleep 1000");
    let shim = world.shim();
    let pid = shim.task.create(context(), &world.create()).unwrap().pid;
    shim.start("").unwrap();
    kill(shim.pid, 9);
    until("it is gone", || std::os::unix::net::UnixStream::connect(&shim.socket).is_err());
    assert!(!ends(&pid.to_string()), "a container outlives its shim");
    let output = World::run(world.command(&world.id, "delete"), b"");
    let response = DeleteResponse::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!((response.pid, response.exit_status), (pid, 137));
    until("its container is ended", || ends(&pid.to_string()));
}

#[test]
fn containerd_and_what_it_missed_is_told_later() {
    let world = World::deaf("exit 7");
    let shim = world.shim();
    shim.task.create(context(), &world.create()).unwrap();
    shim.start("").unwrap();
    assert_eq!(shim.wait(""), 7);
    shim.delete("").unwrap();
    world.listen();
    assert_eq!(world.events.first(4), ["create", "start", "exit init 7", "delete"]);
    shim.shut_down();
}

/// Another container's directory, with the same program.
fn bundle(world: &World, name: &str) -> String {
    let bundle = world.path(name);
    std::fs::create_dir(&bundle).unwrap();
    for file in ["program", "config.json"] {
        std::fs::copy(world.path("bundle").join(file), bundle.join(file)).unwrap();
    }
    bundle.to_string_lossy().into_owned()
}

#[test]
fn who_hangs_holds_up_nobody_else() {
    let world = World::new("exec sleep 1000");
    let shim = world.shim();
    shim.task.create(context(), &world.create()).unwrap();
    let hung = CreateTaskRequest { id: "hung".into(), bundle: bundle(&world, "hung"), ..world.create() };
    std::fs::write(world.path("hung/hang"), "").unwrap();
    // a logging program that gets its output and does not say that it is ready
    let logger = world.path("logger");
    std::fs::write(&logger, format!("#!/bin/sh\necho > '{}'\ncat <&3\n", world.path("logs").display())).unwrap();
    std::fs::set_permissions(&logger, PermissionsExt::from_mode(0o755)).unwrap();
    let stdout = format!("binary://{}", logger.display());
    let mute = CreateTaskRequest { id: "mute".into(), bundle: bundle(&world, "mute"), stdout, ..world.create() };
    let create = |request: &CreateTaskRequest| {
        let (task, request) = (shim.task.clone(), request.clone());
        std::thread::spawn(move || task.create(context(), &request))
    };
    let creating = [create(&hung), create(&mute)];
    let hanging = world.path("hung/hanging");
    until("the runtime works", || std::fs::read_to_string(&hanging).is_ok_and(|pid| pid.ends_with('\n')));
    until("the logging program works", || world.path("logs").exists());
    // the one that nobody reads from
    let stdout = world.fifo("stdout");
    shim.start("").unwrap();
    let spec = Any { value: b"while :; do echo more; done".to_vec(), ..Any::default() };
    let exec = ExecProcessRequest { id: world.id.clone(), exec_id: "e".into(), stdout, ..Default::default() };
    shim.task.exec(context(), &ExecProcessRequest { spec: Some(spec).into(), ..exec }).unwrap();
    shim.start("e").unwrap();
    let state = StateRequest { id: world.id.clone(), ..Default::default() };
    assert_eq!(shim.task.state(context(), &state).unwrap().status.unwrap(), Status::RUNNING);
    assert_eq!(refused(shim.task.state(context(), &StateRequest { id: "hung".into(), ..state })).0, Code::NOT_FOUND);
    shim.kill("e", 9).unwrap();
    assert_eq!(shim.wait("e"), 137);
    shim.kill("", 9).unwrap();
    assert_eq!(shim.wait(""), 137);
    shim.delete("").unwrap();
    // they are where they were
    assert!(creating.iter().all(|create| !create.is_finished()));
    shim.shut_down();
    for create in creating {
        assert!(create.join().unwrap().is_err());
    }
    until("the runtime ends with it", || ends(&world.text("hung/hanging")));
}

#[test]
fn a_create_that_was_given_up() {
    let world = World::new("");
    std::fs::write(world.path("bundle/hang"), "").unwrap();
    let shim = world.shim();
    let (task, request) = (shim.task.clone(), world.create());
    let creating = std::thread::spawn(move || task.create(context(), &request));
    let hanging = world.path("bundle/hanging");
    until("the runtime works", || std::fs::read_to_string(&hanging).is_ok_and(|pid| pid.ends_with('\n')));
    // who gave it up waits for the shim to go, which takes the runtime with it
    shim.shut_down();
    until("the runtime ends with it", || ends(&world.text("bundle/hanging")));
    assert!(creating.join().unwrap().is_err());
}

#[test]
fn containerd_before_it_connects() {
    let world = World::new("");
    let output = World::run(world.command(&world.id, "start"), b"");
    let address = String::from_utf8(output.stdout).unwrap();
    let socket = std::path::Path::new(address.strip_prefix("unix://").unwrap());
    assert!(socket.exists());
    until("a shim that nobody wants ends", || !socket.exists());
}
