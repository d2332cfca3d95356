//! Another runtime beside the one under test, for what both must do alike.

use crate::bundle::Bundle;
use crate::case::Res;
use crate::cx::Cx;
use crate::options::Options;
use crate::run::Run;
use std::cell::Cell;
use std::path::PathBuf;

pub struct Peer {
    options: Options,
    count: Cell<u32>,
}

impl Peer {
    /// None: it is not installed.
    pub fn runc(cx: &Cx) -> Option<Self> {
        let places = ["/usr/sbin/runc", "/usr/bin/runc", "/usr/local/sbin/runc", "/usr/local/bin/runc"];
        let program = places.into_iter().map(PathBuf::from).find(|path| path.exists())?;
        std::fs::create_dir_all(cx.path("peer")).ok()?;
        Some(Self { options: Options { runtime: program, ..cx.options.clone() }, count: Cell::new(0) })
    }

    pub fn run(&self, cx: &Cx, verb: &str) -> Run {
        self.count.set(self.count.get() + 1);
        Run::new(&self.options, &cx.path("peer"), cx.path(&format!("run-peer{}", self.count.get()))).arg(verb)
    }

    /// Created and started: its id.
    pub fn up(&self, cx: &Cx, b: &Bundle) -> Res<String> {
        b.save()?;
        let id = cx.id();
        self.run(cx, "run").args(["--detach", "--bundle"]).arg(&b.dir).arg(&id).out()?.ok()?;
        Ok(id)
    }

    pub fn delete(&self, cx: &Cx, id: &str) -> Res {
        self.run(cx, "delete").args(["--force", id]).out()?.ok().map(drop)
    }
}
