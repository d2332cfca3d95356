//! `plan`: text and JSON, without privileges, without a trace.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::{Done, Place, as_nobody, done, refused, succeeded};

/// A config of a container with a cgroup of an own name.
pub(crate) const CONFIG: &str = r#"{
    "ociVersion": "1.3.0",
    "root": {"path": "rootfs"},
    "process": {"args": ["true"], "cwd": "/", "user": {"uid": 0, "gid": 0}, "env": ["PATH=/bin"]},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    "linux": {"cgroupsPath": "/ferrun-cli-test", "namespaces": [{"type": "pid"}, {"type": "mount"}]}
}"#;

fn plan(place: &Place, more: &[&str]) -> Done {
    done(place.command().args(["plan", "--bundle"]).arg(place.bundle()).args(more))
}

/// Cgroups of the config's name.
fn cgroups() -> Vec<PathBuf> {
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten();
    let places = hierarchies.map(|entry| entry.path()).chain([Path::new("/sys/fs/cgroup").to_owned()]);
    places.map(|place| place.join("ferrun-cli-test")).filter(|place| place.exists()).collect()
}

#[test]
fn a_plan_as_text_and_as_json_is_the_same_plan() {
    let place = Place::with(CONFIG);
    let before = place.files();
    let text = plan(&place, &[]);
    let text = succeeded(&text);
    for line in ["parent   clone3 ", "init     setsid\n", "init     pivot-root (/root/path)\n", "init     exec "] {
        assert!(text.contains(line), "{line:?} is not in {text}");
    }
    assert_eq!(plan(&place, &["--format", "text"]).stdout, text);
    let json = plan(&place, &["--format", "json"]);
    let json: Value = serde_json::from_str(succeeded(&json)).unwrap();
    let steps = json["steps"].as_array().unwrap();
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    let of_text = text.lines().filter_map(|line| line.strip_prefix("init     "));
    let of_text: Vec<&str> = of_text.map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, of_text);
    for key in ["placement", "assets", "spawn", "after_clone", "at_ready", "warnings"] {
        assert!(json.get(key).is_some(), "{key}");
    }
    assert_eq!(place.files(), before);
    assert_eq!(cgroups(), [""; 0].map(PathBuf::from));
}

#[test]
fn without_privileges_too() {
    let place = Place::with(CONFIG);
    let before = place.files();
    let mut command = place.command();
    command.args(["plan", "--format", "json", "--bundle"]).arg(place.bundle());
    if let Some(plan) = as_nobody(&mut command) {
        assert_eq!(plan.status, Some(0), "{plan:?}");
        // where there are cgroups, that nobody can have one
        assert!(plan.stderr.is_empty() || plan.stderr.contains("may not make cgroups"), "{plan:?}");
        let json: Value = serde_json::from_str(&plan.stdout).unwrap();
        assert_eq!(json["steps"][0]["step"], "setsid");
    }
    assert_eq!(place.files(), before);
    assert_eq!(cgroups(), [""; 0].map(PathBuf::from));
}

#[test]
fn relative_bundles_and_the_current_directory() {
    let place = Place::with(CONFIG);
    let absolute = plan(&place, &[]);
    let here = done(place.command().arg("plan").current_dir(place.bundle()));
    let relative = done(place.command().args(["plan", "-b", "bundle"]).current_dir(place.path("")));
    assert_eq!(succeeded(&here), succeeded(&absolute));
    assert_eq!(succeeded(&relative), succeeded(&absolute));
}

/// The root is where its links lead, and what is no directory is none.
#[test]
fn the_root_is_resolved() {
    let place = Place::with(CONFIG.replace("\"rootfs\"", "\"link\""));
    std::os::unix::fs::symlink("rootfs", place.bundle().join("link")).unwrap();
    let rootfs = std::fs::canonicalize(place.bundle().join("rootfs")).unwrap();
    let plan_of_link = plan(&place, &[]);
    assert!(succeeded(&plan_of_link).contains(&format!("attach-root path={} ", rootfs.display())), "{plan_of_link:?}");
    let file = Place::with(CONFIG.replace("\"rootfs\"", "\"config.json\""));
    let line = refused(&plan(&file, &[]), "not a directory");
    assert!(line.contains("(config.json /root/path)"), "{line}");
}

#[test]
fn mistakes_name_their_place() {
    let place = Place::with(CONFIG.replace("\"/proc\"", "\"/a/../b\""));
    let line = refused(&plan(&place, &[]), "(config.json /mounts/0/destination)");
    assert!(line.contains("plan: "), "{line}");
}
