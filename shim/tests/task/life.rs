//! From create to delete, and what comes between.

use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, PauseRequest, ResizePtyRequest, ResumeRequest, StateRequest, Status,
    UpdateTaskRequest,
};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::ttrpc::Code;

use crate::world::{Shim, World, context, refused};

fn status(world: &World, shim: &Shim, exec: &str) -> Status {
    let request = StateRequest { id: world.id.clone(), exec_id: exec.into(), ..Default::default() };
    shim.task.state(context(), &request).unwrap().status.unwrap()
}

#[test]
fn a_life() {
    let world = World::new("exit 7");
    let shim = world.shim();
    let pid = shim.task.create(context(), &world.create()).unwrap().pid;
    assert_eq!(status(&world, &shim, ""), Status::CREATED);
    assert_eq!(refused(shim.task.create(context(), &world.create())).0, Code::ALREADY_EXISTS);
    assert_eq!(shim.start("").unwrap(), pid);
    assert_eq!(refused(shim.start("")).0, Code::FAILED_PRECONDITION);
    assert_eq!(shim.wait(""), 7);
    assert_eq!(status(&world, &shim, ""), Status::STOPPED);
    let (code, words) = refused(shim.kill("", 15));
    assert_eq!((code, words.contains("process already finished")), (Code::NOT_FOUND, true));
    let deleted = shim.delete("").unwrap();
    assert_eq!((deleted.pid, deleted.exit_status), (pid, 7));
    assert_eq!(refused(shim.delete("")).0, Code::NOT_FOUND);
    assert_eq!(world.events.first(4), ["create", "start", "exit init 7", "delete"]);
    shim.shut_down();
    let left: Vec<_> =
        std::fs::read_dir(world.path("bundle")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    for made in &left {
        let known = ["program", "config.json", "options.json", "init.pid", "exit.json", "address"];
        assert!(known.contains(&made.to_str().unwrap()), "{made:?} is left");
    }
}

#[test]
fn never_started() {
    let world = World::new("exit 7");
    let shim = world.shim();
    shim.task.create(context(), &world.create()).unwrap();
    assert_eq!(shim.delete("").unwrap().exit_status, 137);
    assert_eq!(world.events.first(3), ["create", "exit init 137", "delete"]);
    shim.shut_down();
}

#[test]
fn a_create_that_fails() {
    let world = World::new("");
    std::fs::write(world.path("bundle/fail"), "create web: exec: /etc: permission denied").unwrap();
    let shim = world.shim();
    let (code, words) = refused(shim.task.create(context(), &world.create()));
    assert_eq!(code, Code::UNKNOWN);
    assert_eq!(words, "OCI runtime create failed: create web: exec: /etc: permission denied");
    assert_eq!(refused(shim.delete("")).0, Code::NOT_FOUND);
    // the name is free
    std::fs::remove_file(world.path("bundle/fail")).unwrap();
    shim.task.create(context(), &world.create()).unwrap();
    shim.delete("").unwrap();
    shim.shut_down();
}

#[test]
fn execs() {
    let world = World::new("exec sleep 1000");
    let shim = world.shim();
    shim.task.create(context(), &world.create()).unwrap();
    shim.start("").unwrap();
    // it may have ended before we hear its pid
    for round in 0..20 {
        let id = format!("e{round}");
        shim.exec(&id, &format!("exit {round}")).unwrap();
        assert_eq!(refused(shim.exec(&id, "")).0, Code::ALREADY_EXISTS);
        shim.start(&id).unwrap();
        assert_eq!(shim.wait(&id), round);
        assert_eq!(shim.delete(&id).unwrap().exit_status, round);
    }
    let events = world.events.first(2 + 20 * 3);
    for round in 0..20 {
        let expected = ["exec-added".to_owned(), format!("exec-started e{round}"), format!("exit e{round} {round}")];
        assert_eq!(events[2 + round * 3..][..3], expected);
    }
    // of any number
    shim.exec("rt", "exec sleep 1000").unwrap();
    assert_eq!(refused(shim.kill("rt", 9)).0, Code::FAILED_PRECONDITION);
    shim.start("rt").unwrap();
    assert_eq!(refused(shim.delete("rt")).0, Code::FAILED_PRECONDITION);
    shim.kill("rt", 37).unwrap();
    assert_eq!(shim.wait("rt"), 128 + 37);
    assert_eq!(refused(shim.kill("rt", 9)).0, Code::NOT_FOUND);
    assert_eq!(refused(shim.kill("nobody", 9)).0, Code::NOT_FOUND);
    assert_eq!(refused(shim.delete("")).0, Code::FAILED_PRECONDITION);
    shim.kill("", 9).unwrap();
    assert_eq!(shim.wait(""), 137);
    assert_eq!(refused(shim.exec("late", "")).0, Code::FAILED_PRECONDITION);
    shim.delete("").unwrap();
    shim.shut_down();
}

#[test]
fn the_init_s_exit_comes_last() {
    let world = World::new("exec sleep 1000");
    let shim = world.shim();
    shim.task.create(context(), &world.create()).unwrap();
    shim.start("").unwrap();
    shim.exec("e", "exec sleep 1000").unwrap();
    shim.start("e").unwrap();
    shim.kill("", 9).unwrap();
    // the stand-in has no pid namespace that would end it: it is ended here, some time later
    let state = || status(&world, &shim, "");
    assert_eq!(state(), Status::RUNNING);
    shim.kill("e", 15).unwrap();
    assert_eq!((shim.wait("e"), shim.wait("")), (143, 137));
    let events = world.events.first(6);
    assert_eq!(events, ["create", "start", "exec-added", "exec-started e", "exit e 143", "exit init 137"]);
    shim.delete("").unwrap();
    shim.shut_down();
}

#[test]
fn what_else_is_asked() {
    let world = World::new("exec sleep 1000");
    let shim = world.shim();
    shim.task.create(context(), &world.create()).unwrap();
    shim.start("").unwrap();
    let id = || world.id.clone();
    shim.task.pause(context(), &PauseRequest { id: id(), ..Default::default() }).unwrap();
    assert_eq!(status(&world, &shim, ""), Status::PAUSED);
    shim.task.resume(context(), &ResumeRequest { id: id(), ..Default::default() }).unwrap();
    assert_eq!(status(&world, &shim, ""), Status::RUNNING);
    let resources = Any { value: br#"{"pids":{"limit":7}}"#.to_vec(), ..Any::default() };
    let update = UpdateTaskRequest { id: id(), resources: Some(resources).into(), ..Default::default() };
    shim.task.update(context(), &update).unwrap();
    assert_eq!(world.text("update"), r#"{"pids":{"limit":7}}"#);
    let resize = ResizePtyRequest { id: id(), width: 80, height: 24, ..Default::default() };
    shim.task.resize_pty(context(), &resize).unwrap(); // there is none
    let close = CloseIORequest { id: id(), exec_id: "nobody".into(), stdin: true, ..Default::default() };
    assert_eq!(refused(shim.task.close_io(context(), &close)).0, Code::NOT_FOUND);
    let checkpoint = CheckpointTaskRequest { id: id(), ..Default::default() };
    assert_eq!(refused(shim.task.checkpoint(context(), &checkpoint)).0, Code::UNIMPLEMENTED);
    let restore =
        containerd_shim_protos::api::CreateTaskRequest { id: "r".into(), checkpoint: "/c".into(), ..world.create() };
    assert_eq!(refused(shim.task.create(context(), &restore)).0, Code::UNIMPLEMENTED);
    shim.kill("", 9).unwrap();
    shim.wait("");
    shim.delete("").unwrap();
    assert_eq!(world.events.first(6), ["create", "start", "paused", "resumed", "exit init 137", "delete"]);
    shim.shut_down();
}
