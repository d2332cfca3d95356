//! The Task service: what containerd asks, for the containers of one pod.

mod answers;
mod dispatch;
mod monitor;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use containerd_shim_protos::api::{
    CreateTaskRequest, CreateTaskResponse, DeleteRequest, DeleteResponse, ExecProcessRequest, StartRequest,
    StartResponse,
};
use containerd_shim_protos::events::task as events;
use containerd_shim_protos::topics;
use tokio::sync::Notify;

use crate::container::Container;
use crate::convert::timestamp;
use crate::events::Publisher;
use crate::failure::{Failure, Result};
use crate::io::{Owner, Wanted};
use crate::options::Options;
use crate::process::Process;
use crate::reaper::Reaper;
use crate::rootfs;
use crate::runtime::Runtime;
use crate::socket::Name;

#[derive(Debug)]
pub(crate) struct Service {
    namespace: String,
    /// Its directory is root's alone and has a short name: consoles come there too.
    socket: Rc<Name>,
    reaper: Rc<Reaper>,
    publisher: Rc<Publisher>,
    containers: RefCell<BTreeMap<String, Rc<Container>>>,
    /// There are more, or fewer.
    change: Notify,
    /// `Shutdown` was asked for, and nothing is left.
    pub(crate) over: Notify,
}

impl Service {
    pub(crate) fn new(namespace: &str, socket: Rc<Name>, reaper: Rc<Reaper>, publisher: Rc<Publisher>) -> Rc<Self> {
        Rc::new(Self {
            namespace: namespace.to_owned(),
            socket,
            reaper,
            publisher,
            containers: RefCell::default(),
            change: Notify::new(),
            over: Notify::new(),
        })
    }

    /// Those that are there, or are being made.
    pub(crate) fn has_containers(&self) -> bool {
        !self.containers.borrow().is_empty()
    }

    /// Until there are some, or none.
    pub(crate) async fn until_containers(&self, some: bool) {
        while self.has_containers() != some {
            self.change.notified().await;
        }
    }

    fn remove(&self, id: &str) {
        self.containers.borrow_mut().remove(id);
        self.change.notify_waiters();
    }

    /// # Errors
    /// There is none, or not yet.
    fn container(&self, id: &str) -> Result<Rc<Container>> {
        let found = self.containers.borrow().get(id).filter(|container| container.created.get()).cloned();
        found.ok_or_else(|| Failure::not_found(format!("container {id} was not created: not found")))
    }

    fn owner(&self, container: &Container, exec: &str) -> Owner {
        let options = container.runtime.options();
        let id = if exec.is_empty() { &container.id } else { exec };
        Owner { namespace: self.namespace.clone(), id: id.to_owned(), uid: options.io_uid, gid: options.io_gid }
    }

    async fn create(self: &Rc<Self>, request: CreateTaskRequest) -> Result<CreateTaskResponse> {
        ferrun::state::id::check(&request.id).map_err(|error| Failure::invalid(error.to_string()))?;
        if !request.checkpoint.is_empty() {
            return Err(Failure::unimplemented("restoring a checkpoint is not implemented"));
        }
        let options = Options::parse(request.options.as_ref()).map_err(|error| Failure::invalid(error.to_string()))?;
        let bundle = PathBuf::from(&request.bundle);
        let runtime = Runtime::new(options, &self.namespace, &bundle, Rc::clone(&self.reaper));
        let init = Process::new("", Wanted::of_task(&request), Vec::new());
        let container = Rc::new(Container::new(&request.id, bundle, runtime, init));
        // held before anybody else knows of it: who wants to delete what is being made waits
        let change = container.change.lock().await;
        self.reserve(&container)?;
        let made = self.make(&container, &request).await;
        drop(change);
        match made {
            Ok(pid) => Ok(CreateTaskResponse { pid, ..CreateTaskResponse::default() }),
            Err(failure) => {
                self.remove(&container.id);
                Err(failure)
            }
        }
    }

    fn reserve(&self, container: &Rc<Container>) -> Result<()> {
        use std::collections::btree_map::Entry;
        match self.containers.borrow_mut().entry(container.id.clone()) {
            Entry::Occupied(_) => Err(Failure::exists(format!("container {}: already exists", container.id))),
            Entry::Vacant(place) => {
                place.insert(Rc::clone(container));
                self.change.notify_waiters();
                Ok(())
            }
        }
    }

    async fn make(self: &Rc<Self>, container: &Rc<Container>, request: &CreateTaskRequest) -> Result<u32> {
        container.runtime.options().save(&container.bundle)?;
        rootfs::mount(&request.rootfs, &container.rootfs())?;
        let made = container.create(&self.reaper, self.socket.directory(), &self.owner(container, "")).await;
        if let Err(failure) = made {
            if !request.rootfs.is_empty()
                && let Err(failure) = rootfs::unmount(&container.rootfs())
            {
                crate::log::warn(failure.words);
            }
            return Err(failure);
        }
        container.created.set(true);
        let pid = container.init.pid();
        self.watch_memory(container);
        let event = events::TaskCreate {
            container_id: container.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: Some(events::TaskIO {
                stdin: request.stdin.clone(),
                stdout: request.stdout.clone(),
                stderr: request.stderr.clone(),
                terminal: request.terminal,
                ..events::TaskIO::default()
            })
            .into(),
            pid,
            ..events::TaskCreate::default()
        };
        self.publisher.publish(topics::TASK_CREATE_EVENT_TOPIC, &event);
        self.watch_init(container);
        Ok(pid)
    }

    async fn start(self: &Rc<Self>, request: StartRequest) -> Result<StartResponse> {
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let pid = if request.exec_id.is_empty() {
            self.start_init(&container).await?
        } else {
            self.start_exec(&container, &process).await?
        };
        Ok(StartResponse { pid, ..StartResponse::default() })
    }

    async fn start_init(&self, container: &Rc<Container>) -> Result<u32> {
        let _change = container.change.lock().await;
        let _order = container.init.order.lock().await;
        if container.init.is_started() || container.init.ended().is_some() {
            return Err(Failure::precondition("cannot start a process that has been started: failed precondition"));
        }
        container.start().await?;
        container.init.set_started();
        let pid = container.init.pid();
        let event = events::TaskStart { container_id: container.id.clone(), pid, ..events::TaskStart::default() };
        self.publisher.publish(topics::TASK_START_EVENT_TOPIC, &event);
        Ok(pid)
    }

    async fn start_exec(self: &Rc<Self>, container: &Rc<Container>, exec: &Rc<Process>) -> Result<u32> {
        let _order = exec.order.lock().await;
        if exec.is_deleted() {
            return Err(Failure::not_found(format!("process {}: not found", exec.id)));
        }
        if exec.is_started() {
            return Err(Failure::precondition("cannot start a process that has been started: failed precondition"));
        }
        let init_runs = container.init.child().is_some_and(|child| child.ended().is_none());
        if !init_runs {
            return Err(Failure::precondition("cannot exec in a stopped container: failed precondition"));
        }
        container.start_exec(exec, &self.reaper, self.socket.directory(), &self.owner(container, &exec.id)).await?;
        let pid = exec.pid();
        let event = events::TaskExecStarted {
            container_id: container.id.clone(),
            exec_id: exec.id.clone(),
            pid,
            ..events::TaskExecStarted::default()
        };
        self.publisher.publish(topics::TASK_EXEC_STARTED_EVENT_TOPIC, &event);
        self.watch_exec(container, exec);
        Ok(pid)
    }

    async fn exec(&self, request: ExecProcessRequest) -> Result<()> {
        use std::collections::btree_map::Entry;
        let container = self.container(&request.id)?;
        ferrun::state::id::check(&request.exec_id).map_err(|error| Failure::invalid(error.to_string()))?;
        if container.init.ended().is_some() {
            return Err(Failure::precondition("cannot exec in a stopped container: failed precondition"));
        }
        let wanted = Wanted::of_exec(&request);
        let spec = request.spec.into_option().map(|any| any.value).unwrap_or_default();
        match container.execs.borrow_mut().entry(request.exec_id.clone()) {
            Entry::Occupied(_) => return Err(Failure::exists(format!("id {}: already exists", request.exec_id))),
            Entry::Vacant(place) => {
                place.insert(Rc::new(Process::new(&request.exec_id, wanted, spec)));
            }
        }
        let event = events::TaskExecAdded {
            container_id: request.id,
            exec_id: request.exec_id,
            ..events::TaskExecAdded::default()
        };
        self.publisher.publish(topics::TASK_EXEC_ADDED_EVENT_TOPIC, &event);
        Ok(())
    }

    async fn delete(&self, request: DeleteRequest) -> Result<DeleteResponse> {
        let being_made = self.containers.borrow().get(&request.id).cloned();
        if let Some(container) = being_made {
            drop(container.change.lock().await);
        }
        let container = self.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        if request.exec_id.is_empty() {
            self.delete_init(&container).await?;
        } else {
            delete_exec(&container, &process).await?;
        }
        let mut response = DeleteResponse { pid: process.pid(), ..DeleteResponse::default() };
        if let Some(ended) = process.ended() {
            response.exit_status = ended.status;
            response.exited_at = Some(timestamp(ended.at)).into();
        }
        Ok(response)
    }

    async fn delete_init(&self, container: &Rc<Container>) -> Result<()> {
        let _change = container.change.lock().await;
        let init = &container.init;
        // its exit is about to be reported
        let is_over = init.child().is_none_or(|child| child.ended().is_some());
        if init.runs() && !is_over {
            return Err(Failure::precondition("cannot delete a running process: failed precondition"));
        }
        if init.is_started() {
            init.wait().await?;
        }
        if let Some(io) = init.io() {
            io.close().await;
        }
        container.delete(false).await?;
        // one that was not started has been killed now
        init.wait().await?;
        rootfs::unmount(&container.rootfs())?;
        if let Some(watch) = container.memory_watch.take() {
            watch.abort();
        }
        self.remove(&container.id);
        let mut event =
            events::TaskDelete { container_id: container.id.clone(), pid: init.pid(), ..Default::default() };
        if let Some(ended) = init.ended() {
            event.exit_status = ended.status;
            event.exited_at = Some(timestamp(ended.at)).into();
        }
        self.publisher.publish(topics::TASK_DELETE_EVENT_TOPIC, &event);
        Ok(())
    }
}

async fn delete_exec(container: &Container, exec: &Process) -> Result<()> {
    let _order = exec.order.lock().await;
    if exec.runs() {
        return Err(Failure::precondition("cannot delete a running process: failed precondition"));
    }
    if let Some(io) = exec.io() {
        io.close().await;
    }
    exec.set_deleted();
    container.execs.borrow_mut().remove(&exec.id);
    Ok(())
}
