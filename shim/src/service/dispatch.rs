//! From the names of methods to methods.

use std::rc::Rc;

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::empty::Empty;
use containerd_shim_protos::ttrpc::Code;

use super::Service;
use crate::failure::{Failure, Result};
use crate::rpc::Handler;

/// Version 3 is version 2 with another name.
const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

impl Handler for Service {
    async fn call(self: Rc<Self>, service: &str, method: &str, payload: &[u8]) -> Result<Vec<u8>> {
        if !SERVICES.contains(&service) {
            return Err(Failure::unimplemented(format!("service {service} is not here")));
        }
        crate::log::debug(format!("request {method}"));
        match method {
            "State" => reply(self.state(parse(payload)?).await),
            "Create" => reply(self.create(parse(payload)?).await),
            "Start" => reply(self.start(parse(payload)?).await),
            "Delete" => reply(self.delete(parse(payload)?).await),
            "Pids" => reply(self.pids(parse(payload)?).await),
            "Pause" => done(self.pause(parse(payload)?).await),
            "Resume" => done(self.resume(parse(payload)?).await),
            "Checkpoint" => done(self.checkpoint(parse(payload)?).await),
            "Kill" => done(self.kill(parse(payload)?).await),
            "Exec" => done(self.exec(parse(payload)?).await),
            "ResizePty" => done(self.resize_pty(parse(payload)?).await),
            "CloseIO" => done(self.close_io(parse(payload)?).await),
            "Update" => done(self.update(parse(payload)?).await),
            "Wait" => reply(self.wait(parse(payload)?).await),
            "Stats" => reply(self.stats(parse(payload)?).await),
            "Connect" => reply(self.connect(parse(payload)?).await),
            "Shutdown" => done(self.shutdown(parse(payload)?).await),
            _ => Err(Failure::unimplemented(format!("method {method} is not here"))),
        }
    }
}

fn parse<M: Message>(payload: &[u8]) -> Result<M> {
    M::parse_from_bytes(payload).map_err(|error| Failure::invalid(format!("read a {}: {error}", M::NAME)))
}

fn reply<M: Message>(result: Result<M>) -> Result<Vec<u8>> {
    result?.write_to_bytes().map_err(|error| Failure::new(Code::INTERNAL, error.to_string()))
}

fn done(result: Result<()>) -> Result<Vec<u8>> {
    reply(result.map(|()| Empty::new()))
}
