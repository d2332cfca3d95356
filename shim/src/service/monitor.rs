//! What happens by itself: processes end, memory runs out.

use std::rc::Rc;

use containerd_shim_protos::events::task as events;
use containerd_shim_protos::topics;
use tokio::task::spawn_local;

use super::Service;
use crate::container::Container;
use crate::convert::timestamp;
use crate::oom::Watch;
use crate::process::Process;
use crate::reaper::Ended;

impl Service {
    /// The init's exit is the last of its container's.
    pub(super) fn watch_init(self: &Rc<Self>, container: &Rc<Container>) {
        let (service, container) = (Rc::clone(self), Rc::clone(container));
        let Some(child) = container.init.child() else { return };
        spawn_local(async move {
            let ended = child.wait().await;
            // a start that is under way is told first
            let _order = container.init.order.lock().await;
            if container.shares_pids()
                && let Err(failure) = container.kill_all().await
            {
                crate::log::debug(format!("kill what outlived the init: {}", failure.words));
            }
            container.until_alone().await;
            if let Err(error) = container.keep_exit(ended) {
                crate::log::warn(error.to_string());
            }
            service.report(&container, &container.init, ended).await;
        });
    }

    pub(super) fn watch_exec(self: &Rc<Self>, container: &Rc<Container>, exec: &Rc<Process>) {
        let (service, container, exec) = (Rc::clone(self), Rc::clone(container), Rc::clone(exec));
        let Some(child) = exec.child() else { return };
        spawn_local(async move {
            let ended = child.wait().await;
            service.report(&container, &exec, ended).await;
            container.exec_ended();
        });
    }

    async fn report(&self, container: &Container, process: &Process, ended: Ended) {
        if let Some(io) = process.io() {
            io.ended().await;
        }
        let id = if process.id.is_empty() { &container.id } else { &process.id };
        let event = events::TaskExit {
            container_id: container.id.clone(),
            id: id.clone(),
            pid: process.pid(),
            exit_status: ended.status,
            exited_at: Some(timestamp(ended.at)).into(),
            ..events::TaskExit::default()
        };
        self.publisher.publish(topics::TASK_EXIT_EVENT_TOPIC, &event);
        process.set_ended(ended);
    }

    pub(super) fn watch_memory(self: &Rc<Self>, container: &Rc<Container>) {
        let mut watch = match self.memory_of(container) {
            Ok(Some(watch)) => watch,
            Ok(None) => return,
            Err(failure) => return crate::log::warn(format!("watch its memory: {}", failure.words)),
        };
        let (service, id) = (Rc::clone(self), container.id.clone());
        let watching = spawn_local(async move {
            while watch.next().await.is_some() {
                let event = events::TaskOOM { container_id: id.clone(), ..events::TaskOOM::default() };
                service.publisher.publish(topics::TASK_OOM_EVENT_TOPIC, &event);
            }
        });
        container.memory_watch.replace(Some(watching.abort_handle()));
    }

    fn memory_of(&self, container: &Container) -> crate::failure::Result<Option<Watch>> {
        let store = ferrun::state::store::Store::new(container.runtime.root().to_owned());
        Watch::open(&store.enter(&container.id)?.load_created()?.placement)
    }
}
