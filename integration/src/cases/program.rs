//! A program that cannot be executed: the words that callers match, and what is wrong with it, for run and exec alike.

use super::exec::exec;
use crate::bundle::Bundle;
use crate::case::{Case, Res, case, skip};
use crate::cx::Cx;
use crate::ensure;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub fn cases() -> Vec<Case> {
    vec![
        case("program::script_without_its_interpreter", interpreter),
        case("program::script_with_carriage_returns", carriage_return),
        case("program::script_for_a_fifo", fifo),
        case("program::script_for_itself", itself),
        case("program::elf_without_its_loader", loader),
        case("program::elf_without_a_library", library),
        case("program::elf_for_another_machine", machine),
        case("program::elf_that_is_damaged", damaged),
        case("program::empty", empty),
        case("program::text", plain_text),
        case("program::on_a_noexec_mount", noexec),
        case("program::a_directory", directory)
            .differs("runc", "1.1 says permission denied")
            .differs("crun", "says operation not permitted"),
        case("program::not_executable", not_executable),
        case("program::not_executable_for_this_user", not_for_user).differs("crun", "1.8: exec runs it as root"),
    ]
}

fn put(b: &Bundle, name: &str, bytes: impl AsRef<[u8]>, mode: u32) -> Res {
    let path = b.rootfs().join(name);
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    Ok(())
}

/// `/program` fails with `words`; ferrun says `detail` too.
fn fails(cx: &Cx, b: &mut Bundle, words: &str, detail: &[&str]) -> Res {
    b.args(&["/program"]);
    let of_run = cx.with_bundle("run", b, &cx.id())?.out()?.fails(&[words])?;
    let c = cx.sleeping(b)?;
    let of_exec = exec(cx, &c, &[], &["/program"]).out()?.fails(&[words])?;
    if cx.is("ferrun") {
        for out in [of_run, of_exec.exits(255)?] {
            for word in detail {
                ensure!(out.stderr.contains(word), "it does not say {word:?}: {}", out.stderr);
            }
            ensure!(out.stderr.trim().lines().count() == 1, "more than a line: {}", out.stderr);
        }
    }
    Ok(())
}

fn interpreter(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    put(&b, "program", "#! /usr/bin/pyhton3 -u\nprint()\n", 0o755)?;
    fails(cx, &mut b, "no such file or directory", &["/usr/bin/pyhton3 does not exist"])
}

fn carriage_return(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    put(&b, "program", "#!/bin/sh\r\necho hello\r\n", 0o755)?;
    fails(cx, &mut b, "no such file or directory", &["carriage return"])
}

fn fifo(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    nix::unistd::mkfifo(&b.rootfs().join("fifo"), nix::sys::stat::Mode::S_IRWXU)?;
    put(&b, "program", "#!/fifo\n", 0o755)?;
    fails(cx, &mut b, "permission denied", &["/fifo is no regular file"])
}

fn itself(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    put(&b, "program", "#!/program\n", 0o755)?;
    fails(cx, &mut b, "symbolic links", &["interpreter of an interpreter"])
}

/// A program of the host's that is linked dynamically, and its loader.
fn dynamic(b: &Bundle) -> Res<&'static str> {
    const LOADER: &str = "/lib64/ld-linux-x86-64.so.2";
    if !Path::new(LOADER).exists() || b.rootfs().join("lib64").exists() {
        return skip("no dynamic program to be had");
    }
    put(b, "program", fs::read("/usr/bin/env")?, 0o755)?;
    Ok(LOADER)
}

fn loader(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let loader = dynamic(&b)?;
    fails(cx, &mut b, "no such file or directory", &[&format!("{loader} does not exist")])
}

/// The kernel starts the loader, and that says it.
fn library(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let loader = dynamic(&b)?;
    fs::create_dir(b.rootfs().join("lib64"))?;
    put(&b, loader.trim_start_matches('/'), fs::read(loader)?, 0o755)?;
    b.args(&["/program"]);
    let out = cx.run(&b)?.exits(127)?;
    ensure!(out.stderr.contains("libc.so.6"), "{}", out.stderr);
    let c = cx.sleeping(&mut b)?;
    let out = exec(cx, &c, &[], &["/program"]).out()?.exits(127)?;
    ensure!(out.stderr.contains("libc.so.6"), "{}", out.stderr);
    Ok(())
}

fn machine(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let mut program = fs::read("/proc/self/exe")?;
    let (other, name) = if cfg!(target_arch = "x86_64") { (183, "arm64") } else { (62, "x86-64") };
    program[18] = other;
    put(&b, "program", program, 0o755)?;
    fails(cx, &mut b, "exec format error", &[name])
}

fn damaged(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    put(&b, "program", b"\x7fELF\x02\x01", 0o755)?;
    fails(cx, &mut b, "exec format error", &["damaged"])
}

fn empty(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    put(&b, "program", "", 0o755)?;
    fails(cx, &mut b, "exec format error", &["is empty"])
}

fn plain_text(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    put(&b, "program", "echo hello\n", 0o755)?;
    fails(cx, &mut b, "exec format error", &["neither a program in ELF format nor a script"])
}

fn noexec(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    let dir = cx.path("noexec");
    fs::create_dir(&dir)?;
    fs::copy("/bin/busybox", dir.join("true"))?;
    b.bind(&dir, "/mnt", &["bind", "noexec"]);
    put(&b, "program", "#!/mnt/true\n", 0o755)?;
    fails(cx, &mut b, "permission denied", &["/mnt/true", "noexec"])?;
    let mut b = cx.bundle()?;
    b.bind(&dir, "/mnt", &["bind", "noexec"]).args(&["/mnt/true"]);
    let out = cx.run(&b)?.fails(&["permission denied"])?;
    ensure!(!cx.is("ferrun") || out.stderr.contains("noexec"), "{}", out.stderr);
    Ok(())
}

fn directory(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    fs::create_dir(b.rootfs().join("program"))?;
    fails(cx, &mut b, "is a directory", &[])
}

fn not_executable(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    put(&b, "program", "#!/bin/sh\n", 0o644)?;
    fails(cx, &mut b, "permission denied", &["mode 644"])
}

fn not_for_user(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    put(&b, "program", "#!/bin/sh\n", 0o700)?;
    b.set("/process/user", serde_json::json!({"uid": 1000, "gid": 1000}));
    fails(cx, &mut b, "permission denied", &["mode 700"])
}
