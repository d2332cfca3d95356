//! The methods that change no process's life.

use std::rc::Rc;

use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, KillRequest, PauseRequest, PidsRequest,
    PidsResponse, ProcessInfo, ResizePtyRequest, ResumeRequest, ShutdownRequest, StateRequest, StateResponse,
    StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::events::task as events;
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::topics;
use ferrun::state::record::Status;
use ferrun::state::store::Store;

use super::Service;
use crate::container::{Container, Pause, failed, finished};
use crate::convert::{any, timestamp};
use crate::failure::{Failure, Result};
use crate::io::Files;
use crate::metrics;

impl Service {
    pub(super) async fn state(&self, request: StateRequest) -> Result<StateResponse> {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let mut response = StateResponse {
            id: container.id.clone(),
            bundle: container.bundle.to_string_lossy().into_owned(),
            pid: process.pid(),
            status: container.status(&process).into(),
            stdin: process.wanted.stdin.clone(),
            stdout: process.wanted.stdout.clone(),
            stderr: process.wanted.stderr.clone(),
            terminal: process.wanted.terminal,
            exec_id: process.id.clone(),
            ..StateResponse::default()
        };
        if let Some(ended) = process.ended() {
            response.exit_status = ended.status;
            response.exited_at = Some(timestamp(ended.at)).into();
        }
        Ok(response)
    }

    pub(super) async fn wait(&self, request: WaitRequest) -> Result<WaitResponse> {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        let ended = process.wait().await?;
        let exited_at = Some(timestamp(ended.at)).into();
        Ok(WaitResponse { exit_status: ended.status, exited_at, ..WaitResponse::default() })
    }

    pub(super) async fn connect(&self, request: ConnectRequest) -> Result<ConnectResponse> {
        let task_pid = self.container(&request.id).map_or(0, |container| container.init.pid());
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(ConnectResponse { shim_pid: std::process::id(), task_pid, version, ..ConnectResponse::default() })
    }

    pub(super) async fn pids(&self, request: PidsRequest) -> Result<PidsResponse> {
        let container = self.container(&request.id)?;
        let store = Store::new(container.runtime.root().to_owned());
        let mut pids = ferrun::container::ps::pids(&store, &container.id)?;
        if pids.is_empty() {
            // The init that has ended: containerd 1.7, when it starts, takes a shim without processes for a leaked
            // one and removes the task, with an exit that nobody has heard of yet.
            pids.push(container.init.pid().cast_signed());
        }
        let execs = container.execs.borrow();
        let processes = pids.into_iter().map(|pid| {
            let mut info = ProcessInfo { pid: pid as u32, ..ProcessInfo::default() };
            if let Some(exec) = execs.values().find(|exec| exec.pid() == info.pid && exec.runs()) {
                let details = ProcessDetails { exec_id: exec.id.clone(), ..ProcessDetails::default() };
                info.info = Some(any("containerd.runc.v1", &details)).into();
            }
            info
        });
        Ok(PidsResponse { processes: processes.collect(), ..PidsResponse::default() })
    }

    pub(super) async fn kill(&self, request: KillRequest) -> Result<()> {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let child = process.child().ok_or_else(|| Failure::precondition("process not created: failed precondition"))?;
        if child.ended().is_some() && !request.all {
            return Err(finished());
        }
        if request.exec_id.is_empty() {
            return container.kill(request.signal, request.all).await;
        }
        let signal = i32::try_from(request.signal).map_err(|_| Failure::invalid("no such signal"))?;
        child.signal(signal).map_err(|errno| match errno {
            None => finished(),
            Some(errno) => ferrun::error::Error::os(format!("kill {} {signal}", child.pid()), errno).into(),
        })
    }

    pub(super) async fn pause(&self, request: PauseRequest) -> Result<()> {
        let container = self.container(&request.id)?;
        let _change = container.change.lock().await;
        container.pause.set(Pause::UnderWay);
        let paused = container.runtime.run("pause", &[&container.id], Files::default()).await;
        container.pause.set(if paused.is_ok() || container.look() == Some(Status::Paused) {
            Pause::Yes
        } else {
            Pause::No
        });
        paused.map_err(|error| failed("OCI runtime pause failed", &error))?;
        let event = events::TaskPaused { container_id: container.id.clone(), ..events::TaskPaused::default() };
        self.publisher.publish(topics::TASK_PAUSED_EVENT_TOPIC, &event);
        Ok(())
    }

    pub(super) async fn resume(&self, request: ResumeRequest) -> Result<()> {
        let container = self.container(&request.id)?;
        let _change = container.change.lock().await;
        let resumed = container.runtime.run("resume", &[&container.id], Files::default()).await;
        container.pause.set(if resumed.is_err() && container.look() == Some(Status::Paused) {
            Pause::Yes
        } else {
            Pause::No
        });
        resumed.map_err(|error| failed("OCI runtime resume failed", &error))?;
        let event = events::TaskResumed { container_id: container.id.clone(), ..events::TaskResumed::default() };
        self.publisher.publish(topics::TASK_RESUMED_EVENT_TOPIC, &event);
        Ok(())
    }

    pub(super) async fn update(&self, request: UpdateTaskRequest) -> Result<()> {
        let container = self.container(&request.id)?;
        let _change = container.change.lock().await;
        let resources = request.resources.into_option().map(|any| any.value).unwrap_or_default();
        let arguments = ["--resources=-", &container.id];
        let updated = container.runtime.run_with_input("update", &arguments, &resources).await;
        updated.map_err(|error| failed("OCI runtime update failed", &error))
    }

    pub(super) async fn stats(&self, request: StatsRequest) -> Result<StatsResponse> {
        let container = self.container(&request.id)?;
        let stats = metrics::read(container.runtime.root(), &container.id)?;
        Ok(StatsResponse { stats: Some(stats).into(), ..StatsResponse::default() })
    }

    pub(super) async fn resize_pty(&self, request: ResizePtyRequest) -> Result<()> {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        let Some(io) = process.io() else { return Ok(()) };
        let cells = |count: u32| u16::try_from(count).map_err(|_| Failure::invalid("a terminal of that size"));
        Ok(io.resize(cells(request.width)?, cells(request.height)?)?)
    }

    pub(super) async fn close_io(&self, request: CloseIORequest) -> Result<()> {
        let process = self.container(&request.id)?.process(&request.exec_id)?;
        if request.stdin
            && let Some(io) = process.io()
        {
            io.close_input();
        }
        Ok(())
    }

    pub(super) async fn checkpoint(&self, request: CheckpointTaskRequest) -> Result<()> {
        self.container(&request.id)?;
        Err(Failure::unimplemented("checkpoint is not implemented"))
    }

    /// While there are containers it does nothing. One that is still being made is none: who gave that up waits for
    /// us to go, and the runtime goes with us.
    pub(super) async fn shutdown(&self, _: ShutdownRequest) -> Result<()> {
        let created = |container: &Rc<Container>| container.created.get();
        if !self.containers.borrow().values().any(created) {
            // before the answer: who starts the next one for this pod must not find us
            self.socket.remove();
            self.over.notify_one();
        }
        Ok(())
    }
}
