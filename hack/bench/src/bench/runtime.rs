//! The runtimes under test, and how each verb of theirs is called.

use std::path::{Path, PathBuf};

use crate::Res;
use crate::args::Options;
use crate::bundle::{self, Bundle, Payload};
use crate::sandbox::Place;
use crate::spawn::{self, Command, Sample, Spawner};

pub(crate) struct Runtime {
    pub(crate) name: String,
    pub(crate) path: String,
}

pub(crate) const FLOOR: &str = "floor";
pub(crate) const BASELINE: &str = "crun";

impl Runtime {
    pub(crate) fn is_floor(&self) -> bool {
        self.name == FLOOR
    }
}

/// The floor first, then ours, the peers, and those of the command line.
pub(crate) fn find(options: &Options) -> Res<Vec<Runtime>> {
    let exe = std::env::current_exe().map_err(|e| format!("current_exe: {e}"))?;
    let beside = |name: &str| exe.with_file_name(name);
    if !beside(FLOOR).exists() {
        return Err(format!("{} is not there: build the whole package", beside(FLOOR).display()));
    }
    let checkout = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/x86_64-unknown-linux-musl/release/ferrun");
    let ours = [beside("ferrun"), PathBuf::from(checkout)].into_iter().find(|path| path.exists());
    let mut found = vec![(FLOOR.to_owned(), beside(FLOOR))];
    found.extend(ours.map(|path| ("ferrun".to_owned(), path)));
    found.extend([BASELINE, "runc"].iter().filter_map(|name| Some(((*name).to_owned(), in_path(name)?))));
    for text in &options.extra {
        let (name, path) = match text.split_once('=') {
            Some((name, path)) => (name.to_owned(), PathBuf::from(path)),
            None => {
                let path = PathBuf::from(text);
                (path.file_name().unwrap_or_default().to_string_lossy().into_owned(), path)
            }
        };
        // The same name again replaces: `ferrun=/other/build`.
        found.retain(|(other, _)| *other != name);
        found.push((name, path));
    }
    if let Some(only) = &options.only {
        if let Some(name) = only.iter().find(|name| !found.iter().any(|(other, _)| other == *name)) {
            return Err(format!("--runtimes: no runtime {name} here"));
        }
        found.retain(|(name, _)| name == FLOOR || only.contains(name));
    }
    let resolve = |(name, path): (String, PathBuf)| {
        let path = path.canonicalize().map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Runtime { name, path: path.to_string_lossy().into_owned() })
    };
    found.into_iter().map(resolve).collect()
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':').chain(["/usr/sbin", "/sbin"]).map(|dir| Path::new(dir).join(name)).find(|file| file.is_file())
}

/// The verbs of one container's life, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Hello,
    Run,
    Create,
    Start,
    /// One more process in the running container.
    Exec,
    /// The same by the floor, in the container of whichever runtime.
    ExecFloor,
    State,
    Kill,
    Delete,
}

impl Op {
    pub(crate) const CYCLE: [Op; 7] = [Op::Create, Op::Start, Op::Exec, Op::ExecFloor, Op::State, Op::Kill, Op::Delete];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Op::Hello => "hello",
            Op::Run => "run",
            Op::Create => "create",
            Op::Start => "start",
            Op::Exec => "exec",
            Op::ExecFloor => "exec-floor",
            Op::State => "state",
            Op::Kill => "kill",
            Op::Delete => "delete",
        }
    }
}

/// Where the commands run. `wrap` puts a program before a runtime's command line (a probe).
pub(crate) struct Ground<'a> {
    place: &'a Place,
    limits: bool,
    floor: String,
    spawner: Spawner,
    count: u64,
}

pub(crate) type Wrap<'a> = &'a dyn Fn(Op) -> Vec<String>;

pub(crate) fn bare(_: Op) -> Vec<String> {
    Vec::new()
}

impl<'a> Ground<'a> {
    /// `suffix` keeps apart the files of processes that work at the same time.
    pub(crate) fn new(place: &'a Place, options: &Options, suffix: &str) -> Res<Ground<'a>> {
        std::fs::create_dir_all(place.dir.join("state")).map_err(|e| format!("state root: {e}"))?;
        let spawner = Spawner::new(&place.dir.join(format!("stderr{suffix}")))?;
        let exe = std::env::current_exe().map_err(|e| format!("current_exe: {e}"))?;
        let floor = exe.with_file_name(FLOOR).to_string_lossy().into_owned();
        Ok(Ground { place, limits: options.limits, floor, spawner, count: 0 })
    }

    pub(crate) fn scratch(&self, name: &str) -> String {
        self.place.dir.join(name).to_string_lossy().into_owned()
    }

    /// The start and end of a static program.
    pub(crate) fn hello(&mut self, floor: &Runtime, wrap: Wrap) -> Res<Sample> {
        let mut words = wrap(Op::Hello);
        words.extend([floor.path.clone(), "hello".to_owned()]);
        self.spawner.run(&Command::new(&words)?)
    }

    pub(crate) fn run(&mut self, runtime: &Runtime, bundle: Bundle, payload: Payload, wrap: Wrap) -> Res<Sample> {
        let words = self.run_words(runtime, bundle, payload, wrap);
        let sample = self.spawner.run(&Command::new(&words)?)?;
        spawn::reap_strays();
        Ok(sample)
    }

    /// That a container really runs and its exit status comes through: what ends at once for nothing is no floor.
    pub(crate) fn prove(&mut self, runtime: &Runtime) -> Res<()> {
        for bundle in Bundle::ALL {
            let command = Command::new(&self.run_words(runtime, bundle, Payload::Proof, &bare))?;
            self.spawner.run_to(&command, bundle::PROOF)?;
            spawn::reap_strays();
        }
        Ok(())
    }

    /// `Some`: which limit of the full bundle this runtime does not apply, or how else that went wrong.
    pub(crate) fn missing_limits(&mut self, runtime: &Runtime) -> Res<Option<String>> {
        if !self.limits {
            return Ok(None);
        }
        let command = Command::new(&self.run_words(runtime, Bundle::Full, Payload::LimitsProof, &bare))?;
        let missing = self.spawner.run_to(&command, bundle::PROOF).err();
        spawn::reap_strays();
        Ok(missing.map(|text| text.lines().last().unwrap_or_default().to_owned()))
    }

    /// As `run`, with `true`, in a bundle, a cgroup and under an id that no other number has.
    pub(crate) fn run_numbered(&mut self, runtime: &Runtime, bundle: Bundle, number: u32) -> Res<Sample> {
        let words = if runtime.is_floor() {
            let cgroup = bundle::numbered_cgroup(self.place, &runtime.name, bundle, number);
            self.floor_words(runtime, bundle, Payload::True, cgroup)
        } else {
            let dir = bundle::numbered_dir(self.place, &runtime.name, bundle, number);
            self.bundle_words(runtime, &dir, format!("bench-numbered-{number}"))
        };
        self.spawner.run(&Command::new(&words)?)
    }

    fn run_words(&mut self, runtime: &Runtime, bundle: Bundle, payload: Payload, wrap: Wrap) -> Vec<String> {
        let mut words = wrap(Op::Run);
        if runtime.is_floor() {
            let cgroup = bundle::cgroup(self.place, &runtime.name, bundle);
            words.extend(self.floor_words(runtime, bundle, payload, cgroup));
        } else {
            let id = self.next_id();
            words.extend(self.bundle_words(runtime, &bundle::dir(self.place, &runtime.name, bundle, payload), id));
        }
        words
    }

    fn floor_words(&self, runtime: &Runtime, bundle: Bundle, payload: Payload, cgroup: String) -> Vec<String> {
        let kind = format!("{}{}", bundle.name(), if self.limits { "-limits" } else { "" });
        let rootfs = bundle::rootfs(self.place, payload).to_string_lossy().into_owned();
        vec![runtime.path.clone(), kind, rootfs, cgroup, self.place.layout.word()]
    }

    fn bundle_words(&self, runtime: &Runtime, dir: &Path, id: String) -> Vec<String> {
        let mut words = self.verb(runtime, "run");
        words.extend(["--bundle".to_owned(), dir.to_string_lossy().into_owned(), id]);
        words
    }

    /// create, start, exec, state, kill, delete of one container; `before` each, `after` each with its sample.
    pub(crate) fn cycle(
        &mut self,
        runtime: &Runtime,
        bundle: Bundle,
        wrap: Wrap,
        before: &dyn Fn(),
        after: &mut dyn FnMut(Op, Sample) -> Res<()>,
    ) -> Res<()> {
        let id = self.next_id();
        let dir = bundle::dir(self.place, &runtime.name, bundle, Payload::Sleep).to_string_lossy().into_owned();
        let pid_file = self.scratch("pid");
        let mut pid = 0;
        for op in Op::CYCLE {
            let mut words = wrap(op);
            match op {
                // where systemd makes the cgroups their paths are its affair
                Op::ExecFloor if self.place.systemd => continue,
                Op::ExecFloor => words.extend(self.exec_floor_words(runtime, bundle, pid)),
                _ => words.extend(self.verb(runtime, op.name())),
            }
            match op {
                Op::Create => words.extend(["--bundle", &dir, "--pid-file", &pid_file, &id].map(str::to_owned)),
                Op::Exec => words.extend([&id, "true"].map(str::to_owned)),
                Op::ExecFloor => {}
                Op::Kill => words.extend([&id, "KILL"].map(str::to_owned)),
                _ => words.push(id.clone()),
            }
            let command = Command::new(&words)?;
            before();
            let sample = self.spawner.run(&command)?;
            match op {
                Op::Create => pid = read_pid(&pid_file)?,
                // Every runtime finds the container dead, none has to wait for it.
                Op::Kill => spawn::reap(pid)?,
                _ => {}
            }
            after(op, sample)?;
        }
        spawn::reap_strays();
        Ok(())
    }

    fn exec_floor_words(&self, runtime: &Runtime, bundle: Bundle, pid: i32) -> Vec<String> {
        let cgroup = bundle::cgroup(self.place, &runtime.name, bundle);
        let words = [&self.floor, "exec", &pid.to_string(), bundle.name(), &cgroup, &self.place.layout.word()];
        words.map(str::to_owned).to_vec()
    }

    fn verb(&self, runtime: &Runtime, verb: &str) -> Vec<String> {
        let state = self.place.dir.join("state").join(&runtime.name).to_string_lossy().into_owned();
        let mut words = vec![runtime.path.clone(), "--root".to_owned(), state];
        if self.place.systemd {
            words.push("--systemd-cgroup".to_owned());
        }
        words.push(verb.to_owned());
        words
    }

    fn next_id(&mut self) -> String {
        self.count += 1;
        format!("bench-{}", self.count)
    }
}

fn read_pid(file: &str) -> Res<i32> {
    let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
    text.trim().parse().map_err(|_| format!("{file} is not a pid: {text:?}"))
}
