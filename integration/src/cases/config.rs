//! Configs that are wrong: one clear line, a non-zero exit, nothing touched.

use crate::case::{CRUN_LEAVES, Case, Res, case};
use crate::cx::Cx;
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::time::{Duration, Instant};

type Bytes = fn() -> Vec<u8>;

pub fn cases() -> Vec<Case> {
    let mut all = vec![
        case("config::absent_bundle", absent_bundle),
        case("config::absent_config", absent_config),
        case("config::bundle_is_a_file", bundle_file),
        case("config::config_is_a_directory", config_directory),
        case("config::truncated_at_any_point", truncated),
        case("config::of_100_mb", huge).patience(2),
        case("config::is_read_once_from_a_regular_file", fifo).only(&["ferrun"], "runc and crun wait for a writer"),
        case("config::unknown_properties_are_ignored", unknown_property),
        case("config::names_the_pointer", pointers).only(&["ferrun"], "JSON pointers are ferrun's own"),
        case("config::nothing_of_the_rootfs_is_touched", untouched).differs("crun", CRUN_LEAVES),
    ];
    let raw: &[(&str, Bytes)] = &[
        ("empty", Vec::new),
        ("malformed", || b"{ \"ociVersion\": \"1.0.2\", }".to_vec()),
        ("not_an_object", || b"[1, 2, 3]".to_vec()),
        ("null", || b"null".to_vec()),
        ("nul_bytes", || b"{\0\"ociVersion\": \0\"1.0.2\"}\0".to_vec()),
        ("binary", || (0..=255).cycle().take(10_000).collect()),
        ("deeply_nested", || [b"{\"a\":".repeat(100_000), b"1".to_vec(), b"}".repeat(100_000)].concat()),
        ("deeply_nested_array", || [b"{\"mounts\":".to_vec(), b"[".repeat(200_000)].concat()),
    ];
    for (name, bytes) in raw {
        let c = case(format!("config::{name}_is_refused"), move |cx| refused(cx, bytes()));
        all.push(if *name == "null" { c.differs("runc", "ends with a nil pointer panic") } else { c });
    }
    // What is changed, to what; crun's parser is lenient.
    let edits: &[(&str, &str, Value)] = &[
        ("missing_process", "/process", Value::Null),
        ("missing_root", "/root", Value::Null),
        ("missing_oci_version", "/ociVersion", Value::Null),
        ("bad_oci_version", "/ociVersion", json!("one")),
        ("future_oci_version", "/ociVersion", json!("2.0.0")),
        ("rootfs_that_is_absent", "/root/path", json!("nowhere")),
        ("rootfs_that_is_a_file", "/root/path", json!("config.json")),
        ("args_of_the_wrong_type", "/process/args", json!("sh")),
        ("mounts_of_the_wrong_type", "/mounts", json!({"a": 1})),
        ("empty_cwd", "/process/cwd", json!("")),
        ("nul_in_an_argument", "/process/args", json!(["/bin/true", "a\u{0}b"])),
        ("env_without_an_equals_sign", "/process/env", json!(["NOVALUE"])),
        ("hostname_too_long", "/hostname", json!("x".repeat(65))),
        ("rootfs_propagation_unknown", "/linux/rootfsPropagation", json!("sideways")),
    ];
    for (name, pointer, value) in edits.iter().cloned() {
        let c = case(format!("config::{name}_is_refused"), move |cx| edited(cx, pointer, &value));
        all.push(known(name, c));
    }
    all
}

fn known(name: &str, c: Case) -> Case {
    match name {
        "future_oci_version" | "missing_oci_version" | "bad_oci_version" => {
            c.differs("runc", "1.1 does not look at the version").differs("crun", "1.21 does not look at the version")
        }
        "missing_process" => c.differs("crun", "1.21 needs it for start alone"),
        "env_without_an_equals_sign" => c.differs("crun", "passes it on as it is"),
        "nul_in_an_argument" => {
            c.differs("runc", "create does not look, start fails").differs("crun", "cuts the argument off there")
        }
        "args_of_the_wrong_type" => c.differs("crun", "takes it as no args at all"),
        "rootfs_propagation_unknown" => c.differs("crun", "passes over it"),
        _ => c,
    }
}

fn edited(cx: &Cx, pointer: &str, value: &Value) -> Res {
    let mut b = cx.bundle()?;
    if value.is_null() {
        b.unset(pointer);
    } else {
        b.set(pointer, value.clone());
    }
    let out = cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&[])?;
    one_line(cx, &out)
}

fn one_line(cx: &Cx, out: &crate::run::Out) -> Res {
    if cx.is("ferrun") {
        same!(out.error_lines(), 1, format!("lines of {:?}", out.stderr));
        ensure!(out.stderr.len() < 2000, "a line of {} bytes", out.stderr.len());
    }
    Ok(())
}

fn refused(cx: &Cx, bytes: Vec<u8>) -> Res {
    let b = cx.bundle()?;
    fs::write(b.dir.join("config.json"), bytes)?;
    for verb in ["create", "run"] {
        let out = cx.runtime(verb).arg("--bundle").arg(&b.dir).arg(cx.id()).out()?.fails(&[])?;
        one_line(cx, &out)?;
    }
    Ok(())
}

fn absent_bundle(cx: &Cx) -> Res {
    let out = cx.runtime("create").arg("--bundle").arg(cx.path("absent")).arg(cx.id()).out()?;
    one_line(cx, &out.fails(&["no such file"])?)
}

fn absent_config(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    let out = cx.runtime("create").arg("--bundle").arg(&b.dir).arg(cx.id()).out()?;
    one_line(cx, &out.fails(&["config.json"])?)
}

fn bundle_file(cx: &Cx) -> Res {
    let file = cx.path("file");
    fs::write(&file, "")?;
    let out = cx.runtime("create").arg("--bundle").arg(&file).arg(cx.id()).out()?;
    one_line(cx, &out.fails(&["not a directory"])?)
}

fn config_directory(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    fs::create_dir(b.dir.join("config.json"))?;
    let out = cx.runtime("create").arg("--bundle").arg(&b.dir).arg(cx.id()).out()?;
    one_line(cx, &out.fails(&[])?)
}

fn truncated(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    b.save()?;
    let full = fs::read(b.dir.join("config.json"))?;
    for n in 1..20 {
        fs::write(b.dir.join("config.json"), &full[..full.len() * n / 20])?;
        let out = cx.runtime("create").arg("--bundle").arg(&b.dir).arg(cx.id()).out()?;
        one_line(cx, &out.fails(&[])?)?;
    }
    Ok(())
}

fn huge(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/annotations", json!({"big": "x".repeat(100 << 20)}));
    let begin = Instant::now();
    let out = cx.with_bundle("create", &b, &cx.id())?.limit(Duration::from_secs(100)).out()?;
    if out.code == Some(0) {
        // To take it is right as well: it is a valid config.
        let id = out.said.split(' ').next_back().unwrap_or_default().to_owned();
        cx.delete_force(&id)?;
    }
    if cx.is("ferrun") {
        ensure!(begin.elapsed() < Duration::from_secs(60), "it took {:?}", begin.elapsed());
        one_line(cx, &out.fails(&[])?)?;
    }
    Ok(())
}

fn fifo(cx: &Cx) -> Res {
    let b = cx.bundle()?;
    rustix::fs::mknodat(
        rustix::fs::CWD,
        b.dir.join("config.json"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )?;
    let run = cx.runtime("create").arg("--bundle").arg(&b.dir).arg(cx.id());
    run.out()?.fails(&[])?;
    Ok(())
}

fn unknown_property(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.set("/ofTomorrow", json!({"a": [1, 2]}))
        .set("/process/ofTomorrow", json!(true))
        .set("/linux/ofTomorrow", json!("x"));
    cx.run(&b)?.ok()?;
    Ok(())
}

fn pointers(cx: &Cx) -> Res {
    for (pointer, value) in [
        ("/process/cwd", json!("relative")),
        ("/process/user/uid", json!(1u64 << 32)),
        ("/linux/rootfsPropagation", json!("sideways")),
        ("/mounts/0/destination", json!("/a/../../b")),
        ("/linux/namespaces/0/type", json!("quantum")),
        ("/ociVersion", json!("2.0.0")),
        ("/process/args", json!([])),
    ] {
        let mut b = cx.bundle()?;
        b.set(pointer, value);
        let out = cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&[])?;
        ensure!(out.stderr.contains(pointer), "{pointer} is not in {}", out.stderr);
    }
    Ok(())
}

/// A config that is refused has left no trace in the rootfs.
fn untouched(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.mount("/made/by/a/mount", "tmpfs", "tmpfs", &[]).set("/process/args", json!(["no-such-program"]));
    b.push("/linux/namespaces", json!({"type": "quantum"}));
    let before = fs::read_dir(b.rootfs())?.count();
    cx.with_bundle("create", &b, &cx.id())?.out()?.fails(&[])?;
    same!(fs::read_dir(b.rootfs())?.count(), before, "entries of the rootfs");
    Ok(())
}
