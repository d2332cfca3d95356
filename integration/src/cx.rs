//! What a case works with: the runtime, a directory, fresh ids, short verbs.

use crate::bundle::{self, Bundle};
use crate::case::{Context, Res, broken};
use crate::mountinfo::{self, Mount};
use crate::options::Options;
use crate::run::{Out, Run, eventually, lossy};
use serde_json::Value;
use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};

pub struct Cx {
    pub options: Options,
    pub dir: PathBuf,
    count: Cell<u32>,
    /// Whether every bundle from now on has a user namespace.
    mapped: Cell<bool>,
    /// Containers that were created and not deleted by the case itself.
    live: RefCell<Vec<String>>,
}

/// A created container: its id and where its output goes.
pub struct Container {
    pub id: String,
    pub stdout: PathBuf,
}

impl Container {
    pub fn said(&self) -> String {
        lossy(&self.stdout)
    }
}

impl Cx {
    pub fn new(options: Options, dir: PathBuf) -> Self {
        let mapped = Cell::new(options.userns);
        Self { options, dir, count: Cell::new(0), mapped, live: RefCell::new(Vec::new()) }
    }

    pub fn is(&self, kind: &str) -> bool {
        self.options.kind == kind
    }

    /// The state root: empty again after each case.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    fn next(&self) -> u32 {
        self.count.set(self.count.get() + 1);
        self.count.get()
    }

    /// An id that nobody else uses, here or on the machine.
    pub fn id(&self) -> String {
        format!("{}-{}", self.options.tag, self.next())
    }

    /// A fresh cgroupsPath as the driver wants it: a directory below the case's own
    /// parent, or a scope `TAG-gN.scope` in the run's slice.
    pub fn cgroup(&self) -> String {
        let o = &self.options;
        if o.systemd() {
            return format!("{}:{}:g{}", o.slice, o.tag, self.next());
        }
        format!("{}/{}-g{}", o.cgroup_parent(), o.tag, self.next())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A path that nothing else in this case has.
    pub fn fresh(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}{}", self.next()))
    }

    pub fn bundle(&self) -> Res<Bundle> {
        let dir = self.dir.join(format!("bundle{}", self.next()));
        let mut bundle = Bundle::new(dir, &self.options.base.join("template"), &self.cgroup())?;
        if self.options.is_nested() {
            bundle.for_nested(&self.options);
        }
        if self.mapped.get() {
            bundle.map_ids().given = true;
        }
        if self.options.as_user {
            bundle.for_user(!self.options.session.is_empty());
        }
        Ok(bundle)
    }

    /// To the root of the containers, before somebody races for what is in it.
    pub fn give(&self, path: &Path) -> Res {
        if self.has_other_ids() {
            bundle::give(path)?;
        }
        Ok(())
    }

    /// How the container's id is written by the host.
    pub fn host_id(&self, id: u32) -> u32 {
        if self.has_other_ids() { bundle::ROOT + id } else { id }
    }

    /// Whether the containers' ids are others than the harness's: of a single one they are a copy.
    fn has_other_ids(&self) -> bool {
        self.mapped.get() && self.options.ids != 1
    }

    /// Whether every bundle has a user namespace.
    pub fn is_mapped(&self) -> bool {
        self.mapped.get()
    }

    /// Whether no device is made for a container: the host's are bound, and nobody owns them.
    pub fn binds_devices(&self) -> bool {
        self.is_mapped() || self.options.is_nested()
    }

    /// From now on every bundle has a user namespace of its own.
    pub fn map_all(&self) {
        self.mapped.set(true);
    }

    /// The runtime with `--root`; the caller adds the verb.
    pub fn runtime(&self, verb: &str) -> Run {
        let base = self.dir.join(format!("run{}", self.next()));
        Run::new(&self.options, &self.root(), base).arg(verb)
    }

    /// `VERB --bundle DIR ID`, the config written.
    pub fn with_bundle(&self, verb: &str, b: &Bundle, id: &str) -> Res<Run> {
        b.save()?;
        Ok(self.runtime(verb).arg("--bundle").arg(&b.dir).arg(id))
    }

    /// A foreground run to its end.
    pub fn run(&self, b: &Bundle) -> Res<Out> {
        self.with_bundle("run", b, &self.id())?.out()
    }

    /// stdout of a script in the container, which must succeed.
    pub fn sh(&self, b: &mut Bundle, script: &str) -> Res<String> {
        b.sh(script);
        Ok(self.run(b)?.ok()?.stdout)
    }

    /// What the probe sees inside.
    pub fn probe(&self, b: &mut Bundle) -> Res<Value> {
        b.args(&["/probe", "all"]);
        let out = self.run(b)?.ok()?;
        serde_json::from_str(&out.stdout).context(format!("the probe said {:?}", out.stdout))
    }

    /// The mounts as the container sees them.
    pub fn mounts(&self, b: &mut Bundle) -> Res<Vec<Mount>> {
        Ok(mountinfo::parse(&self.sh(b, "cat /proc/self/mountinfo")?))
    }

    pub fn create(&self, b: &Bundle) -> Res<Container> {
        let id = self.id();
        self.live.borrow_mut().push(id.clone());
        let out = self.with_bundle("create", b, &id)?.out()?.ok()?;
        Ok(Container { id, stdout: out.stdout_path })
    }

    /// Will be deleted at the end of the case.
    pub fn adopt(&self, id: &str) {
        self.live.borrow_mut().push(id.to_owned());
    }

    pub fn start(&self, id: &str) -> Res<Out> {
        self.runtime("start").arg(id).out()?.ok()
    }

    /// Created and started.
    pub fn up(&self, b: &Bundle) -> Res<Container> {
        let c = self.create(b)?;
        self.start(&c.id)?;
        Ok(c)
    }

    /// Up, and the program of `Bundle::sleeps` has its trap in place.
    pub fn sleeping(&self, b: &mut Bundle) -> Res<Container> {
        b.sleeps();
        let c = self.up(b)?;
        self.hears(&c, "up")?;
        Ok(c)
    }

    /// Waits until the container has written a word.
    pub fn hears(&self, c: &Container, word: &str) -> Res {
        eventually(&format!("the container says {word:?} (it said {:?})", c.said()), || Ok(c.said().contains(word)))
    }

    /// Whether the program of `Bundle::sleeps` came to run, of a container that was started.
    pub fn came_up(&self, c: &Container) -> Res<bool> {
        let mut up = false;
        eventually("it runs or it ended", || {
            up = c.said().contains("up");
            Ok(up || self.status(&c.id)? == "stopped")
        })?;
        Ok(up)
    }

    pub fn kill(&self, id: &str, signal: &str) -> Res<Out> {
        self.runtime("kill").args([id, signal]).out()?.ok()
    }

    pub fn state(&self, id: &str) -> Res<Value> {
        let out = self.runtime("state").arg(id).out()?.ok()?;
        serde_json::from_str(&out.stdout).context("state is not JSON")
    }

    pub fn status(&self, id: &str) -> Res<String> {
        Ok(self.state(id)?["status"].as_str().unwrap_or_default().to_owned())
    }

    pub fn pid(&self, id: &str) -> Res<i32> {
        Ok(self.state(id)?["pid"].as_i64().unwrap_or(0) as i32)
    }

    pub fn stopped(&self, id: &str) -> Res {
        eventually("status stopped", || Ok(self.status(id)? == "stopped"))
    }

    pub fn delete(&self, id: &str) -> Res<Out> {
        let out = self.runtime("delete").arg(id).out()?.ok()?;
        self.live.borrow_mut().retain(|l| l != id);
        Ok(out)
    }

    pub fn delete_force(&self, id: &str) -> Res<Out> {
        let out = self.runtime("delete").args(["--force", id]).out()?.ok()?;
        self.live.borrow_mut().retain(|l| l != id);
        Ok(out)
    }

    pub fn exists(&self, id: &str) -> bool {
        self.root().join(id).exists()
    }

    /// The end of a case: its containers go the way a manager would remove them.
    pub fn sweep(&self) -> Res {
        let live: Vec<String> = self.live.borrow_mut().drain(..).collect();
        let mut first = Ok(());
        for id in live {
            let swept = self.runtime("delete").args(["--force", &id]).out().and_then(Out::ok);
            if first.is_ok() {
                first = swept.map(|_| ());
            }
        }
        first
    }
}

pub fn text(path: impl AsRef<Path>) -> Res<String> {
    let path = path.as_ref();
    std::fs::read_to_string(path).context(path.display())
}

/// A namespace of a process, as the link of /proc names it.
pub fn namespace(pid: impl std::fmt::Display, kind: &str) -> Res<String> {
    let link = std::fs::read_link(format!("/proc/{pid}/ns/{kind}"));
    Ok(link.context(format!("/proc/{pid}/ns/{kind}"))?.to_string_lossy().into_owned())
}

/// A string of the probe's answer.
pub fn string<'a>(v: &'a Value, pointer: &str) -> Res<&'a str> {
    match v.pointer(pointer).and_then(Value::as_str) {
        Some(s) => Ok(s),
        None => broken(format!("the probe says nothing of {pointer}")),
    }
}
