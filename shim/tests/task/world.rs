//! One shim, its bundle, its runtime and the one that it tells its events.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use containerd_shim_protos::api::{
    ConnectRequest, CreateTaskRequest, DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, ForwardRequest,
    KillRequest, ShutdownRequest, StartRequest, WaitRequest,
};
use containerd_shim_protos::events::task::{TaskExecStarted, TaskExit};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::oci::Options;
use containerd_shim_protos::ttrpc::context::Context;
use containerd_shim_protos::ttrpc::{self, Server, TtrpcContext};
use containerd_shim_protos::{Client, Events, TaskClient, create_events};
use tempfile::TempDir;

pub(crate) const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-ferrun-v1");

/// Much longer than anything takes: only a failure waits for it.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

const RUNTIME: &str = include_str!("runtime.sh");

pub(crate) struct World {
    pub(crate) directory: TempDir,
    pub(crate) id: String,
    pub(crate) events: Arc<Heard>,
    server: Mutex<Option<Server>>,
    daemons: Mutex<Vec<(u32, PathBuf)>>,
}

/// The events, as `topic` and what tells them apart.
#[derive(Default)]
pub(crate) struct Heard {
    list: Mutex<Vec<String>>,
    more: Condvar,
    /// Checked when an exit is told.
    exit_file: Mutex<PathBuf>,
}

struct Listener(Arc<Heard>);

impl Events for Listener {
    fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> ttrpc::Result<Empty> {
        let envelope = request.envelope.unwrap();
        let any = envelope.event.unwrap();
        let mut said = envelope.topic.trim_start_matches("/tasks/").to_owned();
        match any.type_url.as_str() {
            "containerd.events.TaskExit" => {
                let exit = TaskExit::parse_from_bytes(&any.value).unwrap();
                said += &format!(" {} {}", exit.id.rsplit('-').next().unwrap(), exit.exit_status);
                // of the init
                if exit.id == exit.container_id && !self.0.exit_file.lock().unwrap().exists() {
                    said += " (not on disk)";
                }
            }
            "containerd.events.TaskExecStarted" => {
                said += &format!(" {}", TaskExecStarted::parse_from_bytes(&any.value).unwrap().exec_id);
            }
            _ => {}
        }
        self.0.list.lock().unwrap().push(said);
        self.0.more.notify_all();
        Ok(Empty::new())
    }
}

impl Heard {
    /// Waits until as many have come, and says which.
    pub(crate) fn first(&self, count: usize) -> Vec<String> {
        let list = self.list.lock().unwrap();
        let (list, timeout) = self.more.wait_timeout_while(list, LIMIT, |list| list.len() < count).unwrap();
        assert!(!timeout.timed_out(), "events that have come: {:?}", *list);
        list.clone()
    }
}

impl World {
    /// A bundle whose program is this shell script. Nobody listens to events yet.
    pub(crate) fn deaf(program: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let name = directory.path().file_name().unwrap().to_string_lossy().replace('.', "");
        let world = Self {
            id: format!("c-{name}-init"),
            events: Arc::default(),
            server: Mutex::default(),
            daemons: Mutex::default(),
            directory,
        };
        *world.events.exit_file.lock().unwrap() = world.path("bundle/exit.json");
        for made in ["bundle", "root"] {
            std::fs::create_dir(world.path(made)).unwrap();
        }
        std::fs::write(world.path("bundle/program"), program).unwrap();
        std::fs::write(world.path("bundle/config.json"), r#"{"linux": {"namespaces": [{"type": "pid"}]}}"#).unwrap();
        let runtime = world.path("runtime");
        std::fs::write(&runtime, RUNTIME).unwrap();
        std::fs::set_permissions(&runtime, PermissionsExt::from_mode(0o755)).unwrap();
        world
    }

    pub(crate) fn new(program: &str) -> Self {
        let world = Self::deaf(program);
        world.listen();
        world
    }

    /// Events are heard from here on.
    pub(crate) fn listen(&self) {
        let address = format!("unix://{}", self.path("events").display());
        let service = create_events(Arc::new(Listener(Arc::clone(&self.events))));
        let mut server = Server::new().bind(&address).unwrap().register_service(service);
        server.start().unwrap();
        *self.server.lock().unwrap() = Some(server);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn options(&self) -> Any {
        let options = Options {
            binary_name: self.path("runtime").to_string_lossy().into_owned(),
            root: self.path("root").to_string_lossy().into_owned(),
            ..Options::default()
        };
        let value = options.write_to_bytes().unwrap();
        Any { type_url: "containerd.runc.v1.Options".into(), value, ..Any::default() }
    }

    /// The command of containerd's for this id.
    pub(crate) fn command(&self, id: &str, action: &str) -> Command {
        let mut command = Command::new(SHIM);
        command.args(["-namespace", "test", "-address", "/nowhere/containerd.sock", "-publish-binary", "/nowhere"]);
        command.args(["-id", id]).arg("-bundle").arg(self.path("bundle")).arg(action);
        command.current_dir(self.path("bundle")).env_remove("MAX_SHIM_VERSION");
        // of who is not root
        command.env("XDG_RUNTIME_DIR", self.directory.path()).env("TTRPC_ADDRESS", self.path("events"));
        command
    }

    /// Runs it with this on stdin.
    pub(crate) fn run(mut command: Command, stdin: &[u8]) -> Output {
        use std::io::Write;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Starts a shim, as containerd 1.6 does.
    pub(crate) fn shim(&self) -> Shim {
        let output = Self::run(self.command(&self.id, "start"), &self.options().write_to_bytes().unwrap());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.connect(std::str::from_utf8(&output.stdout).unwrap())
    }

    pub(crate) fn connect(&self, address: &str) -> Shim {
        let client = Client::connect(address).unwrap();
        let task = TaskClient::new(client.clone());
        let connected = task.connect(context(), &ConnectRequest { id: self.id.clone(), ..Default::default() }).unwrap();
        let socket = PathBuf::from(address.strip_prefix("unix://").unwrap());
        self.daemons.lock().unwrap().push((connected.shim_pid, socket.clone()));
        Shim { id: self.id.clone(), pid: connected.shim_pid, socket, client, task }
    }

    pub(crate) fn create(&self) -> CreateTaskRequest {
        CreateTaskRequest {
            id: self.id.clone(),
            bundle: self.path("bundle").to_string_lossy().into_owned(),
            options: Some(self.options()).into(),
            ..CreateTaskRequest::default()
        }
    }

    /// A FIFO of this name.
    pub(crate) fn fifo(&self, name: &str) -> String {
        let path = self.path(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        path.to_string_lossy().into_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for (pid, socket) in self.daemons.lock().unwrap().drain(..) {
            if is_shim(pid) {
                kill(pid, 9);
            }
            let _ = std::fs::remove_file(socket); // of a shim that was killed
        }
        if let Ok(pid) = std::fs::read_to_string(self.path("bundle/init.pid")) {
            // a shell of the stand-in's, that a failed test has left
            let pid = pid.trim();
            if std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"/bin/sh")) {
                kill(pid.parse().unwrap(), 9);
            }
        }
    }
}

fn is_shim(pid: u32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == Path::new(SHIM))
}

/// What a process has open, as /proc names it.
pub(crate) fn files(pid: u32) -> Vec<String> {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    // one may be closed while we look
    let name = |fd: std::fs::DirEntry| Some(std::fs::read_link(fd.path()).ok()?.to_string_lossy().into_owned());
    open.filter_map(|fd| name(fd.ok()?)).collect()
}

pub(crate) fn kill(pid: u32, signal: i32) {
    let _ = Command::new("kill").args([format!("-{signal}"), pid.to_string()]).stderr(Stdio::null()).status();
}

pub(crate) fn context() -> Context {
    ttrpc::context::with_duration(LIMIT)
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) struct Shim {
    id: String,
    pub(crate) pid: u32,
    pub(crate) socket: PathBuf,
    pub(crate) client: Client,
    pub(crate) task: TaskClient,
}

impl Shim {
    pub(crate) fn start(&self, exec: &str) -> ttrpc::Result<u32> {
        let request = StartRequest { id: self.id.clone(), exec_id: exec.into(), ..Default::default() };
        self.task.start(context(), &request).map(|response| response.pid)
    }

    /// The exit status.
    pub(crate) fn wait(&self, exec: &str) -> u32 {
        let request = WaitRequest { id: self.id.clone(), exec_id: exec.into(), ..Default::default() };
        let response = self.task.wait(context(), &request).unwrap();
        assert!(response.exited_at.seconds > 0);
        response.exit_status
    }

    pub(crate) fn exec(&self, exec: &str, script: &str) -> ttrpc::Result<Empty> {
        let spec = Any { type_url: "spec".into(), value: script.as_bytes().to_vec(), ..Any::default() };
        let request = ExecProcessRequest {
            id: self.id.clone(),
            exec_id: exec.into(),
            spec: Some(spec).into(),
            ..ExecProcessRequest::default()
        };
        self.task.exec(context(), &request)
    }

    pub(crate) fn kill(&self, exec: &str, signal: u32) -> ttrpc::Result<Empty> {
        let request = KillRequest { id: self.id.clone(), exec_id: exec.into(), signal, ..Default::default() };
        self.task.kill(context(), &request)
    }

    pub(crate) fn delete(&self, exec: &str) -> ttrpc::Result<DeleteResponse> {
        let request = DeleteRequest { id: self.id.clone(), exec_id: exec.into(), ..Default::default() };
        self.task.delete(context(), &request)
    }

    /// What it has open, as /proc names it.
    pub(crate) fn files(&self) -> Vec<String> {
        files(self.pid)
    }

    /// It goes, and takes its socket with it.
    pub(crate) fn shut_down(&self) {
        let request = ShutdownRequest { id: self.id.clone(), ..Default::default() };
        // it may be gone before its answer is read
        let _ = self.task.shutdown(context(), &request);
        until("the shim ends", || !is_shim(self.pid));
        assert!(!self.socket.exists());
    }
}

/// The code and the words of a request that must fail.
pub(crate) fn refused<T>(result: ttrpc::Result<T>) -> (ttrpc::Code, String) {
    match result.err().expect("it is refused") {
        ttrpc::Error::RpcStatus(status) => (status.code(), status.message),
        other => panic!("{other}"),
    }
}
