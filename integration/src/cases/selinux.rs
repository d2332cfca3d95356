//! SELinux: the labels that processes, file systems and keys really get, and what the policy makes of them. The
//! policy is our own.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case, skip};
use crate::cx::{Container, Cx};
use crate::run::Run;
use crate::selinux::{label, missing};
use crate::sockets;
use crate::{ensure, same};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

pub fn cases() -> Vec<Case> {
    vec![
        of("process_label", |cx| process_label(cx, true)),
        of("process_label_with_new_privileges", |cx| process_label(cx, false)),
        of("none_is_that_of_the_runtime", no_label),
        of("types_and_categories_keep_apart", kept_apart),
        of("exec_has_the_label_of_the_container", exec_inherits),
        of("exec_with_another_label", exec_another),
        of("file_systems_have_the_mount_label", file_systems),
        of("masked_directories_have_the_mount_label", masked),
        of("context_of_a_mount_wins", context_wins).differs("runc", TWO_CONTEXTS).differs("crun", TWO_CONTEXTS),
        of("keyring_has_the_process_label", keyring).differs("crun", "1.21 gives an exec none"),
        of("notify_socket_has_the_process_label", notify).differs("runc", NOTIFY).differs("crun", NOTIFY),
        of("process_label_unknown", unknown_label),
        of("mount_label_unknown", unknown_mount_label),
        of("mount_label_forbidden", forbidden_mount_label),
        of("process_label_forbidden", forbidden_label),
        of("labels_with_a_fake_proc_in_the_image", fake_proc),
    ]
}

const TWO_CONTEXTS: &str = "gives it both, and the kernel refuses";
const NOTIFY: &str = "its socket has its own label";

fn of(name: &str, body: fn(&Cx) -> Res) -> Case {
    case(format!("lsm::selinux_{name}"), move |cx| match missing() {
        Some(why) => skip(why),
        None => body(cx),
    })
}

const CONTAINER: &str = "system_u:system_r:container_t:s0:c1,c2";
const SECOND: &str = "system_u:system_r:second_t:s0:c3,c4";
const FILES: &str = "system_u:object_r:container_file_t:s0:c1,c2";

/// The label of a file as the container has it, from outside.
fn file_label(pid: i32, path: &str) -> Res<String> {
    let mut value = [0; 256];
    let path = format!("/proc/{pid}/root{path}");
    let length = rustix::fs::getxattr(&path, "security.selinux", &mut value[..]).context(path)?;
    Ok(String::from_utf8_lossy(&value[..length]).trim_end_matches('\0').to_owned())
}

fn give_label(path: &Path, label: &str) -> Res {
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "security.selinux", label.as_bytes(), flags).context(path.display())
}

fn bundle(cx: &Cx) -> Res<Bundle> {
    let mut b = cx.bundle()?;
    b.set("/process/selinuxLabel", json!(CONTAINER)).set("/linux/mountLabel", json!(FILES));
    Ok(b)
}

fn exec(cx: &Cx, id: &str, options: &[&str], script: &str) -> Run {
    cx.runtime("exec").args(options).arg(id).args(["/bin/sh", "-c", script])
}

fn process_label(cx: &Cx, no_new_privileges: bool) -> Res {
    let mut b = bundle(cx)?;
    b.set("/process/noNewPrivileges", json!(no_new_privileges));
    let c = cx.sleeping(&mut b)?;
    same!(label(cx.pid(&c.id)?)?, CONTAINER, "label");
    Ok(())
}

fn no_label(cx: &Cx) -> Res {
    let c = cx.sleeping(&mut cx.bundle()?)?;
    let pid = cx.pid(&c.id)?;
    same!(label(pid)?, label("self")?, "label");
    same!(file_label(pid, "/dev/shm")?, "system_u:object_r:file_t:s0", "label of /dev/shm");
    Ok(())
}

/// Files for each of two containers, and one that has the type of the first and the categories of the second.
fn label_files(b: &Bundle) -> Res {
    let files = [
        ("first", FILES),
        ("type", "system_u:object_r:second_file_t:s0:c1,c2"),
        ("categories", "system_u:object_r:container_file_t:s0:c3,c4"),
        ("second", "system_u:object_r:second_file_t:s0:c3,c4"),
    ];
    for (name, label) in files {
        let path = b.rootfs().join(name);
        fs::write(&path, "")?;
        give_label(&path, label)?;
    }
    Ok(())
}

const READS: &str = "for f in first type categories second; do if cat /$f; then echo $f; fi; done 2> /dev/null";

fn kept_apart(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    label_files(&b)?;
    same!(cx.sh(&mut b, READS)?, "first\n", "files that can be read");
    b.set("/process/selinuxLabel", json!(SECOND)).set("/linux/cgroupsPath", json!(cx.cgroup()));
    same!(cx.sh(&mut b, READS)?, "second\n", "files that another container can read");
    Ok(())
}

fn exec_inherits(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    label_files(&b)?;
    let c = cx.sleeping(&mut b)?;
    let out = exec(cx, &c.id, &[], &format!("tr -d '\\0' < /proc/self/attr/current; echo; {READS}")).out()?.ok()?;
    same!(out.stdout.replace(" \n", "\n"), format!("{CONTAINER}\nfirst\n"), "label and reads of an exec");
    Ok(())
}

fn exec_another(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    label_files(&b)?;
    let c = cx.sleeping(&mut b)?;
    let script = format!("tr -d '\\0' < /proc/self/attr/current; echo; {READS}");
    let out = exec(cx, &c.id, &["--process-label", SECOND], &script).out()?.ok()?;
    same!(out.stdout.replace(" \n", "\n"), format!("{SECOND}\nsecond\n"), "label and reads of an exec");
    same!(label(cx.pid(&c.id)?)?, CONTAINER, "label of the init afterwards");
    Ok(())
}

fn file_systems(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    b.mount("/mnt", "tmpfs", "tmpfs", &["size=1m"]);
    let c = cx.sleeping(&mut b)?;
    let pid = cx.pid(&c.id)?;
    for path in ["/dev", "/dev/null", "/dev/pts", "/dev/pts/ptmx", "/dev/shm", "/dev/mqueue", "/mnt"] {
        same!(file_label(pid, path)?, FILES, format!("label of {path}"));
    }
    for path in ["/proc/version", "/sys/kernel", "/bin/busybox"] {
        same!(file_label(pid, path)?, "system_u:object_r:file_t:s0", format!("label of {path}"));
    }
    Ok(())
}

fn masked(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    for name in ["one", "two"] {
        fs::create_dir(b.rootfs().join(name))?;
        b.push("/linux/maskedPaths", json!(format!("/{name}")));
    }
    let c = cx.sleeping(&mut b)?;
    for name in ["/one", "/two"] {
        same!(file_label(cx.pid(&c.id)?, name)?, FILES, format!("label of {name}"));
    }
    Ok(())
}

fn context_wins(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    let own = "system_u:object_r:container_file_t:s0:c3,c4";
    b.mount("/mnt", "tmpfs", "tmpfs", &["size=1m", &format!("context=\"{own}\"")]);
    let c = cx.sleeping(&mut b)?;
    same!(file_label(cx.pid(&c.id)?, "/mnt")?, own, "label of /mnt");
    Ok(())
}

/// The label of the session keyring, of a container's and of an exec's.
fn keyring(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    let seen = cx.probe(&mut b)?;
    same!(seen["keyringLabel"], json!(CONTAINER), "label of the keyring");
    b.set("/linux/cgroupsPath", json!(cx.cgroup()));
    let c = cx.sleeping(&mut b)?;
    let out = cx.runtime("exec").args([&c.id, "/probe", "all"]).out()?.ok()?;
    let seen: Value = serde_json::from_str(&out.stdout)?;
    same!(seen["keyringLabel"], json!(CONTAINER), "label of the keyring of an exec");
    Ok(())
}

/// The policy lets nobody talk to sockets of another label.
fn notify(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    b.sh("/probe notify READY=1 && echo told; sleep 100");
    let path = cx.path("notify");
    let socket = UnixDatagram::bind(&path)?;
    let id = cx.id();
    cx.adopt(&id);
    let created = cx.with_bundle("create", &b, &id)?.env("NOTIFY_SOCKET", &path).out()?.ok()?;
    let c = Container { id, stdout: created.stdout_path };
    let start = cx.runtime("start").arg(&c.id).env("NOTIFY_SOCKET", &path).spawn()?;
    while !sockets::datagram(&socket).context("no word that it is ready")?.contains("READY=1") {}
    // nobody reads on: no barrier is waited for
    drop(socket);
    start.wait()?.ok()?;
    cx.hears(&c, "told")
}

fn refused(cx: &Cx, b: &Bundle, verb: &str, words: &[&str], of_ferrun: &[&str]) -> Res {
    let id = cx.id();
    let out = cx.with_bundle(verb, b, &id)?.out()?.fails(words)?;
    ensure!(!cx.exists(&id), "the state of {id} is left");
    same!(out.stdout, "", "output of what must not run");
    if cx.is("ferrun") {
        ensure!(of_ferrun.iter().all(|word| out.stderr.contains(word)), "{} lacks one of {of_ferrun:?}", out.stderr);
        same!(out.error_lines(), 1, "lines of the error");
    }
    Ok(())
}

fn unknown_label(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    let unknown = "system_u:system_r:no_such_t:s0";
    b.set("/process/selinuxLabel", json!(unknown));
    let words =
        [unknown, "keycreate", "the SELinux policy that is loaded has no such context", "/process/selinuxLabel"];
    refused(cx, &b, "create", &["invalid argument"], &words)
}

fn unknown_mount_label(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    let unknown = "system_u:object_r:no_such_t:s0";
    b.set("/linux/mountLabel", json!(unknown));
    let words = [unknown, "has no such context", "/linux/mountLabel"];
    refused(cx, &b, "create", &["invalid argument"], &words)
}

fn forbidden_mount_label(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    let forbidden = "system_u:object_r:second_file_t:s0";
    b.set("/linux/mountLabel", json!(forbidden));
    let words = [forbidden, "relabelto, class filesystem", "/linux/mountLabel"];
    refused(cx, &b, "create", &["permission denied"], &words)
}

/// The kernel looks at it when the program is executed.
fn forbidden_label(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    let forbidden = "system_u:system_r:unreached_t:s0";
    b.set("/process/selinuxLabel", json!(forbidden)).set("/process/noNewPrivileges", json!(false)).sh("echo ran");
    refused(cx, &b, "run", &["permission denied"], &[forbidden, "exec /bin/sh", "policy"])
}

/// CVE-2019-16884, as for AppArmor.
fn fake_proc(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    b.unmount("/proc").unset("/linux/maskedPaths").unset("/linux/readonlyPaths").sleeps();
    for process in ["self", "thread-self", "1"] {
        let attributes = b.rootfs().join("proc").join(process).join("attr");
        fs::create_dir_all(&attributes)?;
        for file in ["exec", "current", "keycreate", "sockcreate"] {
            fs::write(attributes.join(file), "")?;
        }
    }
    let id = cx.id();
    let out = cx.with_bundle("create", &b, &id)?.out()?;
    if out.code != Some(0) {
        return out.fails(&["proc"]).map(drop);
    }
    cx.adopt(&id);
    let c = Container { id, stdout: out.stdout_path };
    if cx.start(&c.id).is_ok() && cx.came_up(&c)? {
        same!(label(cx.pid(&c.id)?)?, CONTAINER, "label");
    }
    Ok(())
}
