//! Id-mapped mounts: who a file of the host's belongs to in the container, and the other way round.

use crate::bundle::Bundle;
use crate::case::{Case, Context, Res, case};
use crate::cx::Cx;
use crate::{ensure, same};
use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

const NO_LISTS: &str = "1.1 does not know the lists of a mount";
const NO_WORD: &str = "1.1 gives the word to the file system";

pub fn cases() -> Vec<Case> {
    vec![
        case("idmap::lists_of_the_mount", lists).differs("runc", NO_LISTS),
        case("idmap::what_the_container_makes", made).differs("runc", NO_LISTS),
        case("idmap::who_is_not_mapped_can_make_nothing", unmapped).differs("runc", NO_LISTS),
        case("idmap::ranges_of_the_option", ranges).differs("runc", NO_WORD),
        case("idmap::two_mounts_with_the_same_and_one_with_other_ids", several).differs("runc", NO_LISTS),
        case("idmap::read_only_and_other_flags_too", flags).differs("runc", NO_LISTS),
        case("idmap::of_a_file", file).differs("runc", NO_LISTS),
        case("idmap::is_not_recursive", |cx| depth(cx, "idmap", 0))
            .differs("runc", NO_LISTS)
            .differs("crun", "1.8 maps what is below as well"),
        case("idmap::ridmap_is_recursive", |cx| depth(cx, "ridmap", 100_000)).differs("runc", NO_LISTS),
        case("idmap::the_source_keeps_its_owners", source_untouched).differs("runc", NO_LISTS),
        case("idmap::a_file_system_that_cannot_is_named", |cx| refused(cx, "sysfs", "idmap")),
        case("idmap::a_file_system_that_cannot_is_named_in_a_tree", |cx| refused(cx, "proc", "ridmap"))
            .differs("crun", "1.8 starts the container all the same"),
        case("idmap::a_list_alone_is_refused", alone),
        case("idmap::without_lists_and_user_namespace_is_refused", without_lists),
        case("idmap::the_containers_own", own).differs("runc", NO_WORD),
        case("idmap::relative_to_the_containers", relative).differs("runc", NO_WORD),
        case("idmap::relative_to_several_of_the_containers", relative_split)
            .differs("runc", NO_WORD)
            .differs("crun", "takes all of a range from the container's first"),
        case("idmap::relative_to_nobody_is_refused", relative_to_nobody)
            .differs("crun", "looks at the first id of a range only"),
    ]
}

/// A directory of the host's with a file of root's and one of 7:8.
fn shared(cx: &Cx) -> Res<PathBuf> {
    let dir = cx.fresh("shared");
    fs::create_dir(&dir)?;
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
    fs::write(dir.join("root"), "root's\n")?;
    fs::write(dir.join("other"), "another's\n")?;
    chown(dir.join("other"), Some(7), Some(8))?;
    Ok(dir)
}

/// The ids are what these cases are about.
fn bundle(cx: &Cx) -> Res<Bundle> {
    let mut b = cx.bundle()?;
    b.host_ids().given = false;
    Ok(b)
}

/// A bind of `source` on `destination`, root being `host` and so on.
fn mapped(b: &mut Bundle, source: &Path, destination: &str, options: &[&str], host: u32) {
    let list = json!([{"containerID": 0, "hostID": host, "size": 1000}]);
    let mount = json!({"destination": destination, "type": "bind", "source": source, "options": options,
        "uidMappings": list, "gidMappings": list});
    b.push("/mounts", mount);
}

const OWNERS: &str = "stat -c %u:%g /mnt/root /mnt/other";

fn lists(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    mapped(&mut b, &shared(cx)?, "/mnt", &["bind"], 100_000);
    same!(cx.sh(&mut b, OWNERS)?, "100000:100000\n100007:100008\n", "owners");
    Ok(())
}

fn made(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let mut b = bundle(cx)?;
    b.set("/process/user", json!({"uid": 100_005, "gid": 100_006}));
    mapped(&mut b, &dir, "/mnt", &["bind"], 100_000);
    same!(cx.sh(&mut b, "echo new > /mnt/new; stat -c %u:%g /mnt/new")?, "100005:100006\n", "owner in the container");
    let stat = fs::metadata(dir.join("new"))?;
    same!((stat.uid(), stat.gid()), (5, 6), "owner on the host");
    Ok(())
}

fn unmapped(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let mut b = bundle(cx)?;
    mapped(&mut b, &dir, "/mnt", &["bind"], 100_000);
    let said = cx.sh(&mut b, "echo new 2>&1 > /mnt/new; cat /mnt/root")?;
    ensure!(said.contains("Value too large") && said.contains("root's"), "{said:?}");
    ensure!(!dir.join("new").exists(), "it is there");
    Ok(())
}

fn ranges(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    b.bind(shared(cx)?, "/mnt", &["bind", "idmap=uids=0-300-1#7-500-2;gids=0-600-10"]);
    same!(cx.sh(&mut b, OWNERS)?, "300:600\n500:608\n", "owners");
    Ok(())
}

fn several(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let mut b = bundle(cx)?;
    for (place, host) in [("/one", 1000), ("/two", 1000), ("/three", 5000)] {
        mapped(&mut b, &dir, place, &["bind"], host);
    }
    b.bind(&dir, "/plain", &["bind"]);
    let seen = cx.sh(&mut b, "stat -c %u /one/root /two/root /three/root /plain/root")?;
    same!(seen, "1000\n1000\n5000\n0\n", "owners");
    Ok(())
}

fn flags(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    mapped(&mut b, &shared(cx)?, "/mnt", &["bind", "ro", "noexec", "nosuid"], 100_000);
    let mounts = cx.mounts(&mut b)?;
    let found = crate::mountinfo::at(&mounts, "/mnt");
    let has = |word| found.is_some_and(|mount| mount.has(word));
    ensure!(["ro", "noexec", "nosuid", "idmapped"].into_iter().all(has), "{found:?}");
    Ok(())
}

fn file(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    mapped(&mut b, &shared(cx)?.join("other"), "/mnt/file", &["bind"], 2000);
    same!(cx.sh(&mut b, "stat -c %u:%g /mnt/file")?, "2007:2008\n", "owner");
    Ok(())
}

/// A mount below the source's: it follows only with `ridmap`.
fn depth(cx: &Cx, word: &str, below: u32) -> Res {
    let dir = shared(cx)?;
    let sub = dir.join("sub");
    fs::create_dir(&sub)?;
    mount("sub", &sub, "tmpfs", MountFlags::empty(), None).context("mount a tmpfs")?;
    let mut b = bundle(cx)?;
    mapped(&mut b, &dir, "/mnt", &["rbind", word], 100_000);
    let seen = cx.sh(&mut b, "stat -c %u /mnt /mnt/sub");
    rustix::mount::unmount(&sub, rustix::mount::UnmountFlags::DETACH)?;
    same!(seen?, format!("100000\n{below}\n"), "owners");
    Ok(())
}

fn source_untouched(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let mut b = bundle(cx)?;
    mapped(&mut b, &dir, "/mnt", &["bind"], 100_000);
    b.bind(&dir, "/plain", &["bind"]);
    same!(cx.sh(&mut b, "stat -c %u:%g /plain/root /plain/other")?, "0:0\n7:8\n", "owners in a bind beside it");
    let stat = fs::metadata(dir.join("other"))?;
    same!((stat.uid(), stat.gid()), (7, 8), "owner on the host");
    Ok(())
}

/// With `ridmap` it is somewhere below the source.
fn refused(cx: &Cx, fstype: &str, word: &str) -> Res {
    let dir = shared(cx)?;
    let sub = dir.join("sub");
    fs::create_dir(&sub)?;
    mount(fstype, &sub, fstype, MountFlags::empty(), None).context("mount")?;
    let mut b = bundle(cx)?;
    let (source, bind) = if word == "idmap" { (&sub, "bind") } else { (&dir, "rbind") };
    mapped(&mut b, source, "/mnt", &[bind, word], 100_000);
    let out = cx.run(&b);
    rustix::mount::unmount(&sub, rustix::mount::UnmountFlags::DETACH)?;
    let out = out?;
    if !cx.is("ferrun") {
        return out.fails(&[]).map(drop);
    }
    let words = format!("{fstype} ({}) cannot be id-mapped on this kernel", sub.display());
    let out = out.fails(&[&words])?;
    ensure!(out.stderr.contains("/mounts/6/source"), "no pointer: {}", out.stderr);
    Ok(())
}

fn alone(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    mapped(&mut b, &shared(cx)?, "/mnt", &["bind"], 100_000);
    b.set("/mounts/6/gidMappings", Value::Null);
    cx.run(&b)?.fails(&[])?;
    Ok(())
}

fn without_lists(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    b.bind(shared(cx)?, "/mnt", &["bind", "idmap"]);
    cx.run(&b)?.fails(&[])?;
    Ok(())
}

/// The files are to be the container's own as they are: what root made on the host is of root.
fn own(cx: &Cx) -> Res {
    let dir = shared(cx)?;
    let mut b = bundle(cx)?;
    b.map_ids().bind(&dir, "/mnt", &["bind", "idmap"]).bind(&dir, "/home", &["bind"]);
    let seen = cx.sh(&mut b, &format!("{OWNERS} /home/root; echo new > /mnt/new"))?;
    same!(seen, "0:0\n7:8\n65534:65534\n", "owners");
    let stat = fs::metadata(dir.join("new"))?;
    same!((stat.uid(), stat.gid()), (0, 0), "owner of what the container made");
    Ok(())
}

fn relative(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    b.map_ids().bind(shared(cx)?, "/mnt", &["bind", "idmap=uids=@0-40-10;gids=@0-50-10"]);
    same!(cx.sh(&mut b, OWNERS)?, "40:50\n47:58\n", "owners");
    Ok(())
}

fn relative_split(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    b.map_ids().set(
        "/linux/uidMappings",
        json!([{"containerID": 0, "hostID": 100_000, "size": 5}, {"containerID": 5, "hostID": 300_000, "size": 60_000}]),
    );
    b.bind(shared(cx)?, "/mnt", &["bind", "idmap=uids=@0-0-10;gids=@0-0-10"]);
    same!(cx.sh(&mut b, OWNERS)?, "0:0\n7:8\n", "owners");
    Ok(())
}

fn relative_to_nobody(cx: &Cx) -> Res {
    let mut b = bundle(cx)?;
    b.map_ids().bind(shared(cx)?, "/mnt", &["bind", "idmap=uids=@0-65530-10;gids=@0-0-10"]);
    let out = cx.run(&b)?.fails(&[])?;
    ensure!(!cx.is("ferrun") || out.stderr.contains("/mounts/6/options/1"), "no pointer: {}", out.stderr);
    Ok(())
}
