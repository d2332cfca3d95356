//! Where systemd makes the container's cgroups: `slice:prefix:name`.

use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::host::{BPF_ROOT, CGROUP_ROOT, Cgroups, Host};

use super::cgroupfs::{Bus, Hierarchies, Placement, Unit};

const POINTER: &str = "/linux/cgroupsPath";

/// systemd.unit(5): with the NUL 256.
const MAX_NAME: usize = 255;

/// `/linux/cgroupsPath` as systemd's users write it; without one the scope `ferrun-ID.scope` of the default slice.
///
/// # Errors
/// It is a path; a part of it is no name of a unit; systemd does not run, or there are no cgroups.
pub fn place(cgroups_path: Option<&Path>, id: &str, host: &Host) -> Result<Placement> {
    if !cfg!(feature = "systemd") {
        return Err(Error::new("this ferrun was built without systemd").hint("use --cgroup-manager cgroupfs"));
    }
    if !host.systemd.running {
        return Err(Error::new("systemd is not running: there is no /run/systemd/system")
            .hint("leave out --systemd-cgroup, or use --cgroup-manager cgroupfs"));
    }
    let bus = if host.systemd.uid == 0 { Bus::System } else { Bus::User };
    let path = cgroups_path.map(Path::to_string_lossy).unwrap_or_default();
    let (slice, name) = if path.is_empty() {
        (default_slice(bus).to_owned(), default_name(id))
    } else {
        parse(&path, bus).at(pointer)?
    };
    let below = expand(&slice).at(pointer)?;
    check_name(&name).at(pointer)?;
    let inside = below.join(&name);
    let hierarchies = match (&host.cgroups, bus) {
        (Cgroups::None, _) => {
            return Err(Error::new("this host has no cgroups").hint("--cgroup-manager disabled does without"));
        }
        (Cgroups::V1 { .. }, Bus::User) => {
            return Err(Error::new("cgroup v1 cannot be delegated to an unprivileged user")
                .hint("boot with systemd.unified_cgroup_hierarchy=1, or be root"));
        }
        (Cgroups::V1 { hierarchies }, Bus::System) => {
            Hierarchies::V1 { directories: hierarchies.iter().map(|one| one.mount.join(&inside)).collect() }
        }
        (Cgroups::V2 { own }, _) => {
            let top = match bus {
                Bus::System => PathBuf::new(),
                Bus::User => user_manager(own, host.systemd.uid),
            };
            Hierarchies::V2 { directory: Path::new(CGROUP_ROOT).join(top).join(inside) }
        }
    };
    let pinned = host.systemd.bpffs && bus == Bus::System && matches!(hierarchies, Hierarchies::V2 { .. });
    // its file system takes no dots; a unit's name has no plus
    let program = pinned.then(|| Path::new(BPF_ROOT).join("ferrun").join(name.replace('.', "+")));
    Ok(Placement { hierarchies, unit: Some(Unit { name, slice, bus, program }) })
}

fn pointer() -> String {
    POINTER.to_owned()
}

fn default_slice(bus: Bus) -> &'static str {
    match bus {
        Bus::System => "system.slice",
        Bus::User => "user.slice",
    }
}

/// The one character of an id that a unit's name cannot have is written as systemd-escape(1) does.
fn default_name(id: &str) -> String {
    format!("ferrun-{}.scope", id.replace('+', "\\x2b"))
}

/// Slice and scope of `slice:prefix:name`.
fn parse(path: &str, bus: Bus) -> Result<(String, String)> {
    let parts: Vec<&str> = path.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        return Err(Error::new(format!(
            "expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
        )));
    };
    if name.is_empty() {
        return Err(Error::new(format!("{path:?} has no name after the last colon")));
    }
    if name.ends_with(".slice") {
        return Err(Error::new(format!("{name:?} is a slice: a container is made in a scope")));
    }
    let slice = if slice.is_empty() { default_slice(bus) } else { slice };
    let name = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    Ok((slice.to_owned(), name))
}

/// systemd.unit(5): which characters a unit's name has.
fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if name.len() > MAX_NAME {
        return Err(Error::new(format!(
            "a systemd unit's name has at most {MAX_NAME} characters, and this one {}",
            name.len()
        )));
    }
    if !name.chars().all(allowed) {
        return Err(Error::new(format!(
            "{name:?} is no name of a systemd unit: letters, digits and :-_.\\@ are allowed"
        )));
    }
    Ok(())
}

/// The path of a slice: `a-b.slice` is in `a.slice`, and `-.slice` is the root: systemd.slice(5).
fn expand(slice: &str) -> Result<PathBuf> {
    let wrong = || Error::new(format!("{slice:?} is no name of a systemd slice such as \"machine-web.slice\""));
    check_name(slice)?;
    let stem = slice.strip_suffix(".slice").ok_or_else(wrong)?;
    if stem == "-" {
        return Ok(PathBuf::new());
    }
    let mut path = PathBuf::new();
    let mut name = String::new();
    for part in stem.split('-') {
        if part.is_empty() {
            return Err(wrong());
        }
        if !name.is_empty() {
            name.push('-');
        }
        name += part;
        path.push(format!("{name}.slice"));
    }
    Ok(path)
}

/// The cgroup of the user's own systemd: the one that we are below, or the usual one.
fn user_manager(own: &Path, uid: u32) -> PathBuf {
    let service = format!("user@{uid}.service");
    let above = own.ancestors().find(|path| path.file_name().is_some_and(|name| name == service.as_str()));
    match above {
        Some(above) => above.strip_prefix("/").unwrap_or(above).to_owned(),
        None => format!("user.slice/user-{uid}.slice/{service}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Hierarchy, Systemd};

    fn host(uid: u32, own: &str) -> Host {
        let systemd = Systemd { running: true, uid, bpffs: false };
        Host { cgroups: Cgroups::V2 { own: own.into() }, systemd, ..Host::default() }
    }

    fn placed(path: &str, host: &Host) -> (String, String, Vec<PathBuf>) {
        let placement = place(Some(Path::new(path)), "web", host).expect(path);
        let directories = placement.directories().to_vec();
        let unit = placement.unit.expect("unit");
        (unit.slice, unit.name, directories)
    }

    fn refused(path: &str) -> Error {
        let error = place(Some(Path::new(path)), "web", &host(0, "/")).expect_err(path);
        assert_eq!(error.parts().pointer.as_deref(), Some(POINTER), "{path}");
        error
    }

    #[test]
    fn slice_prefix_name() {
        let place = |path: &str| {
            let (slice, name, directories) = placed(path, &host(0, "/"));
            (slice, name, directories[0].to_string_lossy().into_owned())
        };
        let expected =
            |slice: &str, name: &str, path: &str| (slice.to_owned(), name.to_owned(), format!("/sys/fs/cgroup/{path}"));
        assert_eq!(
            place("system.slice:docker:1234"),
            expected("system.slice", "docker-1234.scope", "system.slice/docker-1234.scope")
        );
        assert_eq!(
            place("kubepods-besteffort-pod1.slice:cri:c"),
            expected(
                "kubepods-besteffort-pod1.slice",
                "cri-c.scope",
                "kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1.slice/cri-c.scope"
            )
        );
        assert_eq!(place("-.slice:a:b"), expected("-.slice", "a-b.scope", "a-b.scope"));
        assert_eq!(place("::b"), expected("system.slice", "b.scope", "system.slice/b.scope"));
        assert_eq!(place(""), expected("system.slice", "ferrun-web.scope", "system.slice/ferrun-web.scope"));
    }

    #[test]
    fn default_names_are_escaped() {
        let placement = place(None, "a+b", &host(0, "/")).expect("placement");
        assert_eq!(placement.unit.expect("unit").name, "ferrun-a\\x2bb.scope");
    }

    #[test]
    fn paths_and_other_mistakes() {
        for path in ["/a/b", "web", "a:b", "a.slice:b:c:d"] {
            let text = refused(path).to_string();
            assert!(text.contains("expected cgroupsPath to be of format \"slice:prefix:name\""), "{text}");
        }
        for path in [
            "a:b:c",
            ".slice:b:c",
            "a--b.slice:b:c",
            "-a.slice:b:c",
            "a/b.slice:b:c",
            "a.slice:b:",
            "a.slice:b:c.slice",
        ] {
            refused(path);
        }
        refused("a.slice:b:c/d");
        refused("a.slice:b:c d");
        refused(&format!("a.slice:b:{}", "x".repeat(250)));
    }

    #[test]
    fn the_users_own_systemd() {
        let usual = placed("::b", &host(1000, "/"));
        assert_eq!(usual.0, "user.slice");
        assert_eq!(
            usual.2,
            [Path::new("/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/user.slice/b.scope")]
        );
        let own = "/lxc/user.slice/user-1000.slice/user@1000.service/app.slice/term.scope";
        let nested = placed("app.slice:a:b", &host(1000, own));
        assert_eq!(
            nested.2,
            [Path::new("/sys/fs/cgroup/lxc/user.slice/user-1000.slice/user@1000.service/app.slice/a-b.scope")]
        );
    }

    #[test]
    fn each_hierarchy_of_version_1() {
        let hierarchy = |name: &str| Hierarchy {
            controllers: vec![name.to_owned()],
            mount: Path::new(CGROUP_ROOT).join(name),
            own: "/user.slice".into(),
        };
        let mut host = host(0, "/");
        host.cgroups = Cgroups::V1 { hierarchies: vec![hierarchy("memory"), hierarchy("systemd")] };
        assert_eq!(
            placed("a-b.slice:p:n", &host).2,
            [
                Path::new("/sys/fs/cgroup/memory/a.slice/a-b.slice/p-n.scope"),
                Path::new("/sys/fs/cgroup/systemd/a.slice/a-b.slice/p-n.scope")
            ]
        );
        host.systemd.uid = 1000;
        assert!(place(None, "web", &host).is_err());
    }

    #[test]
    fn without_systemd() {
        let mut host = host(0, "/");
        host.systemd.running = false;
        let error = place(None, "web", &host).expect_err("no systemd");
        assert!(error.to_string().contains("systemd is not running"), "{error}");
    }
}
