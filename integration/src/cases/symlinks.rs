//! crun's options for binds from and onto symlinks.

use crate::bundle::Bundle;
use crate::case::{Case, Res, case};
use crate::cx::Cx;
use crate::{ensure, mountinfo, same};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

const NO_WORDS: &str = "does not know the words";
const LATER: &str = "1.8 does not know the word";

pub fn cases() -> Vec<Case> {
    let all = vec![
        case("symlinks::copied", copied).differs("crun", LATER),
        case("symlinks::copied_where_the_same_is_already", copied_again).differs("crun", LATER),
        case("symlinks::not_copied_over_something_else", not_over).differs("crun", LATER),
        case("symlinks::copied_below_a_link_of_the_rootfs", copied_below_a_link).differs("crun", LATER),
        case("symlinks::what_is_no_link_is_bound", no_link),
        case("symlinks::bound_itself", bound).differs("crun", LATER),
        case("symlinks::covered", covered).differs("crun", LATER),
        case("symlinks::covered_by_a_link", covered_by_a_link).differs("crun", LATER),
        case("symlinks::a_dangling_one_is_covered", covered_dangling).differs("crun", LATER),
        case("symlinks::followed_without_a_word", followed),
    ];
    all.into_iter().map(|case| case.differs("runc", NO_WORDS)).collect()
}

/// A file of the host's and a link to it: the link.
fn link(cx: &Cx) -> Res<PathBuf> {
    let dir = cx.fresh("links");
    fs::create_dir(&dir)?;
    fs::write(dir.join("file"), "from the host\n")?;
    symlink("file", dir.join("link"))?;
    Ok(dir.join("link"))
}

/// The link in the container, which leads to a file there.
fn target(b: &Bundle) -> Res {
    fs::write(b.rootfs().join("real"), "the container's\n")?;
    Ok(symlink("real", b.rootfs().join("target"))?)
}

fn untouched(b: &Bundle) -> Res {
    same!(fs::read_link(b.rootfs().join("target"))?, Path::new("real"), "the link in the rootfs");
    same!(fs::read_to_string(b.rootfs().join("real"))?, "the container's\n", "what it leads to");
    Ok(())
}

fn copied(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.bind(link(cx)?, "/a/b/link", &["bind", "copy-symlink", "ro"]);
    let mounts = mountinfo::parse(&cx.sh(&mut b, "readlink /a/b/link >&2; cat /proc/self/mountinfo")?);
    ensure!(mountinfo::at(&mounts, "/a/b/link").is_none(), "something is mounted there");
    same!(fs::read_link(b.rootfs().join("a/b/link"))?, Path::new("file"), "the link");
    Ok(())
}

fn copied_again(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.bind(link(cx)?, "/link", &["bind", "copy-symlink"]);
    for _ in 0..2 {
        same!(cx.sh(&mut b, "readlink /link")?, "file\n", "the link");
    }
    Ok(())
}

fn not_over(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    target(&b)?;
    for place in ["/target", "/real", "/etc"] {
        b.unmount("/target").unmount("/real").bind(link(cx)?, place, &["bind", "copy-symlink"]);
        cx.run(&b)?.fails(&["exists", "invalid", "is not", "is a directory"])?;
        untouched(&b)?;
    }
    Ok(())
}

/// It leads to where it would lead in the container.
fn copied_below_a_link(cx: &Cx) -> Res {
    let outside = cx.path("outside");
    fs::create_dir(&outside)?;
    let mut b = cx.bundle()?;
    symlink(&outside, b.rootfs().join("dir"))?;
    b.bind(link(cx)?, "/dir/link", &["bind", "copy-symlink"]);
    let out = cx.run(b.sh("readlink /dir/link"))?;
    ensure!(fs::read_dir(&outside)?.next().is_none(), "something was made on the host");
    same!(out.ok()?.stdout, "file\n", "the link");
    Ok(())
}

fn no_link(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.bind(link(cx)?.with_file_name("file"), "/file", &["bind", "copy-symlink"]);
    same!(cx.sh(&mut b, "cat /file")?, "from the host\n", "the file");
    Ok(())
}

fn bound(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    b.bind(link(cx)?, "/new", &["bind", "src-nofollow"]);
    same!(cx.sh(&mut b, "readlink /new")?, "file\n", "the link");
    ensure!(b.rootfs().join("new").is_file(), "it was mounted on a file of the rootfs");
    Ok(())
}

fn covered(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    target(&b)?;
    b.bind(link(cx)?, "/target", &["bind", "dest-nofollow"]);
    same!(cx.sh(&mut b, "cat /target /real")?, "from the host\nthe container's\n", "the files");
    untouched(&b)
}

fn covered_by_a_link(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    target(&b)?;
    b.bind(link(cx)?, "/target", &["bind", "src-nofollow", "dest-nofollow"]);
    same!(cx.sh(&mut b, "readlink /target")?, "file\n", "the link");
    untouched(&b)
}

fn covered_dangling(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    symlink("/not/there", b.rootfs().join("target"))?;
    b.bind(link(cx)?, "/target", &["bind", "dest-nofollow"]);
    same!(cx.sh(&mut b, "cat /target")?, "from the host\n", "the file");
    ensure!(!b.rootfs().join("not").exists(), "what it leads to was made");
    Ok(())
}

fn followed(cx: &Cx) -> Res {
    let mut b = cx.bundle()?;
    target(&b)?;
    b.bind(link(cx)?, "/target", &["bind"]);
    same!(cx.sh(&mut b, "cat /target /real")?, "from the host\n".repeat(2), "the files");
    untouched(&b)
}
