//! Mounts: their mistakes, their kinds, and what each option word becomes.

use std::path::PathBuf;

use ferrun::config::{IdMapping, Mount, MountAttr, MountOptions, MountSource, Propagation, PropagationKind, options};
use serde_json::{Value, json};

use crate::{one, refused};

#[test]
fn mistakes_of_mounts() {
    let wrong = |mount: Value, key: &str, words: &str| {
        refused("/mounts/2", mount, &format!("/mounts/2{key}"), words);
    };
    let tmpfs = |destination: &str| json!({"destination": destination, "type": "tmpfs"});
    wrong(tmpfs("/a/../b"), "/destination", "mounts[2].destination must be a path without `..`: \"/a/../b\"");
    wrong(tmpfs("../b"), "/destination", "without `..`");
    wrong(tmpfs("/a\0"), "/destination", "control characters");
    wrong(tmpfs("/a\n"), "/destination", "control characters");
    wrong(tmpfs(""), "/destination", "must be given");
    wrong(tmpfs("/"), "/destination", "below the root itself");
    wrong(tmpfs("/proc"), "/destination", "\"/proc\" cannot be mounted because it is not of type proc");
    for path in ["/proc/self", "/proc/sys", "//proc/./1/attr", "/proc/cpuinfo/x", "/proc/sysrq-trigger"] {
        wrong(tmpfs(path), "/destination", "cannot be mounted because it is inside /proc");
        wrong(json!({"destination": path, "source": "/x", "options": ["bind"]}), "/destination", "inside /proc");
    }
    wrong(json!({"destination": "/x"}), "/type", "must have a type");
    wrong(json!({"destination": "/x", "type": "none"}), "/type", "bind, rbind and remount");
    wrong(json!({"destination": "/x", "type": "bind"}), "/source", "a bind mount must have a source");
    wrong(json!({"destination": "/x", "options": ["rbind"], "source": ""}), "/source", "must have a source");
    wrong(json!({"destination": "/x", "options": ["bind"], "source": "a\0"}), "/source", "NUL");
    wrong(json!({"destination": "/x", "type": "a\nb"}), "/type", "control");
    wrong(json!({"destination": "/x", "type": "tmpfs", "options": ["ro", "a\0"]}), "/options/1", "control");
    wrong(json!({"destination": "/x", "type": "tmpfs", "options": ["=1"]}), "/options/0", "key=value");
    let bind = |more: Value| {
        let mut mount = json!({"destination": "/x", "source": "/y", "options": ["bind"]});
        mount.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        mount
    };
    let ids = json!([{"containerID": 0, "hostID": 5, "size": 10}]);
    wrong(bind(json!({"options": ["bind", "idmap"]})), "/options", "or a user namespace");
    wrong(bind(json!({"uidMappings": ids})), "/gidMappings", "given together");
    wrong(
        json!({"destination": "/x", "type": "tmpfs", "uidMappings": ids, "gidMappings": ids}),
        "",
        "only supported for bind-mounts",
    );
    for (list, key) in [
        (json!([{"containerID": 0, "hostID": 0, "size": 0}]), "/0/size"),
        (json!([{"containerID": 4_294_967_290u32, "hostID": 0, "size": 6}]), "/0/containerID"),
        (json!([{"containerID": 0, "hostID": 4_294_967_295u32, "size": 1}]), "/0/hostID"),
        (
            json!([{"containerID": 0, "hostID": 0, "size": 10}, {"containerID": 9, "hostID": 10, "size": 1}]),
            "/1/containerID",
        ),
        (
            json!([{"containerID": 0, "hostID": 9, "size": 10}, {"containerID": 10, "hostID": 0, "size": 10}]),
            "/1/hostID",
        ),
        ((0..65536).map(|n| json!({"containerID": n, "hostID": n, "size": 1})).collect(), ""),
    ] {
        wrong(bind(json!({"uidMappings": list, "gidMappings": ids})), &format!("/uidMappings{key}"), "must be");
    }
    for text in [
        "idmap=",
        "idmap=uids=0-1-2",
        "idmap=x",
        "idmap=uids=0-1;gids=0-1-2",
        "idmap=uids=0-0-1-1;gids=0-0-1",
        "idmap=uids=0-0-10#5-20-1;gids=0-0-1",
        "idmap=uids=@0-0-1;gids=0-0-1",
        "idmap=uids=0-0-1;gids=@@0-0-1",
        "idmap=uids=0-0-0;gids=0-0-1",
        "idmap=uids=-1-0-1;gids=0-0-1",
        "idmap=uids=0-0-1;gids=0-4294967295-1",
        "idmap=uids=0-0-1;gids=0-0-1;pids=0-0-1",
        "ridmap=uids=0-0-1",
    ] {
        wrong(bind(json!({"options": ["bind", text]})), "/options/1", "idmap");
    }
}

fn mount(mount: Value) -> (Mount, Vec<String>) {
    let mut config = one("/mounts/2", mount);
    (config.mounts.remove(2), config.warnings)
}

#[test]
fn kinds_of_mounts() {
    let (relative, warnings) = mount(json!({"destination": "a//b/.", "type": "tmpfs"}));
    assert_eq!(relative.destination, PathBuf::from("/a/b"));
    assert_eq!(relative.source, MountSource::Fs { fstype: "tmpfs".into(), source: "none".into() });
    assert_eq!(warnings[0], "mounts[2].destination is not absolute, \"/a/b\" is meant: \"a//b/.\"");
    let bind = |recursive| MountSource::Bind { path: "y".into(), recursive };
    for (kind, options, source) in [
        ("none", json!(["bind"]), bind(false)),
        ("", json!(["rbind"]), bind(true)),
        ("tmpfs", json!(["rbind", "bind"]), bind(true)),
        ("bind", json!([]), bind(false)),
        ("cgroup", json!(["bind"]), bind(false)),
        ("cgroup2", json!([]), MountSource::Cgroup),
        ("", json!(["remount", "bind", "ro"]), MountSource::Remount),
        ("ext4", json!([]), MountSource::Fs { fstype: "ext4".into(), source: "y".into() }),
    ] {
        let (mount, _) = mount(json!({"destination": "/x", "type": kind, "source": "y", "options": options}));
        assert_eq!(mount.source, source, "{kind} {options}");
    }
    mount(json!({"destination": "/proc/net/dev", "source": "/y", "options": ["bind"]}));
    mount(json!({"destination": "/proc", "source": "/proc", "options": ["rbind"]}));
    mount(json!({"destination": "/", "options": ["remount", "nosuid"]}));
    mount(json!({"destination": "/process", "type": "tmpfs"}));
    let ids = json!([{"containerID": 0, "hostID": 5, "size": 10}]);
    let (mapped, _) = mount(
        json!({"destination": "/x", "source": "/y", "options": ["rbind", "ridmap"], "uidMappings": ids, "gidMappings": ids}),
    );
    let idmap = mapped.options.idmap.unwrap();
    assert!(idmap.recursive);
    assert_eq!(idmap.maps.uids, [IdMapping { container_id: 0, host_id: 5, size: 10 }]);
    let (mapped, _) = mount(
        json!({"destination": "/x", "source": "/y", "options": ["bind", "idmap=uids=0-1-10#10-11-10;gids=0-3-10"]}),
    );
    let idmap = mapped.options.idmap.unwrap();
    assert_eq!((idmap.maps.uids.len(), idmap.maps.gids[0].host_id, idmap.recursive), (2, 3, false));
    let (_, warnings) = mount(json!({"destination": "/x", "source": "/y", "options": ["bind", "sync", "tmpcopyup"]}));
    assert_eq!(warnings[0], "mounts[2]: sync has no effect on a bind mount");
    assert_eq!(warnings[1], "mounts[2]: tmpcopyup has no effect on anything but a tmpfs");
}

/// What becomes of the options of a tmpfs.
fn parsed(words: &[&str]) -> MountOptions {
    mount(json!({"destination": "/x", "type": "tmpfs", "options": words})).0.options
}

#[test]
fn every_word_about_attributes() {
    let table: [(&str, u64, u64); 20] = [
        ("ro", 1, 0),
        ("rw", 0, 1),
        ("nosuid", 2, 0),
        ("suid", 0, 2),
        ("nodev", 4, 0),
        ("dev", 0, 4),
        ("noexec", 8, 0),
        ("exec", 0, 8),
        ("noatime", 0x10, 0x70),
        ("atime", 0, 0x70),
        ("strictatime", 0x20, 0x70),
        ("nostrictatime", 0, 0x70),
        ("relatime", 0, 0x70),
        ("norelatime", 0, 0),
        ("nodiratime", 0x80, 0),
        ("diratime", 0, 0x80),
        ("nosymfollow", 0x20_0000, 0),
        ("symfollow", 0, 0x20_0000),
        ("defaults", 0, 0),
        ("silent", 0, 0),
    ];
    for (word, set, clear) in table {
        let options = parsed(&[word]);
        assert_eq!(options.attr, MountAttr { set, clear }, "{word}");
        assert_eq!(options.recursive_attr, MountAttr::default(), "{word}");
        assert!(options.data.is_empty() && options.flags.is_empty(), "{word}");
        if !matches!(word, "defaults" | "silent") {
            let options = parsed(&[&format!("r{word}")]);
            assert_eq!(options.recursive_attr, MountAttr { set, clear }, "r{word}");
            assert_eq!(options.attr, MountAttr::default(), "r{word}");
        }
    }
}

#[test]
fn the_last_word_counts() {
    for (words, set, clear) in [
        (&["ro", "rw"][..], 0, 1),
        (&["rw", "ro"], 1, 0),
        (&["noatime", "strictatime"], 0x20, 0x70),
        (&["strictatime", "noatime"], 0x10, 0x70),
        (&["noatime", "relatime"], 0, 0x70),
        (&["noatime", "atime"], 0, 0x70),
        (&["strictatime", "atime"], 0x20, 0x70),
        (&["strictatime", "nostrictatime"], 0, 0x70),
        (&["noatime", "norelatime"], 0x10, 0x70),
        (&["nosuid", "noexec", "nodev", "ro", "nodiratime"], 0x8f, 0),
    ] {
        assert_eq!(parsed(words).attr, MountAttr { set, clear }, "{words:?}");
    }
}

#[test]
fn every_other_word() {
    for (word, kind) in [
        ("shared", PropagationKind::Shared),
        ("slave", PropagationKind::Slave),
        ("private", PropagationKind::Private),
        ("unbindable", PropagationKind::Unbindable),
    ] {
        assert_eq!(parsed(&[word]).propagation, [Propagation { kind, recursive: false }]);
        assert_eq!(parsed(&[&format!("r{word}")]).propagation, [Propagation { kind, recursive: true }]);
    }
    for word in ["sync", "async", "dirsync", "lazytime", "nolazytime", "mand", "nomand"] {
        assert_eq!(parsed(&[word]).flags, [word]);
    }
    for (word, flag) in
        [("rsync", "sync"), ("rasync", "async"), ("rdirsync", "dirsync"), ("rmand", "mand"), ("rnomand", "nomand")]
    {
        assert_eq!(parsed(&[word]).flags, [flag]);
    }
    for word in ["silent", "loud", "iversion", "noiversion", "acl", "noacl", "defaults"] {
        assert_eq!(parsed(&[word]), Default::default(), "{word}");
    }
    assert!(parsed(&["tmpcopyup"]).tmpcopyup);
    let bind = |words: &[&str]| {
        let words: Vec<&str> = ["bind"].iter().chain(words).copied().collect();
        let options = mount(json!({"destination": "/x", "source": "/y", "options": words})).0.options;
        (options.src_nofollow, options.dest_nofollow, options.copy_symlink)
    };
    assert_eq!(bind(&["src-nofollow", "dest-nofollow"]), (true, true, false));
    assert_eq!(bind(&["copy-symlink"]), (false, false, true));
    for word in ["src-nofollow", "dest-nofollow", "copy-symlink"] {
        refused("/mounts/3/options", json!([word]), "", "bind mounts only");
    }
    for word in ["src-nofollow", "dest-nofollow"] {
        let both = json!({"destination": "/x", "source": "/y", "options": ["bind", word, "copy-symlink"]});
        refused("/mounts/2", both, "/mounts/2/options", "cannot go with");
    }
}

#[test]
fn data_for_the_file_system() {
    let data = |words: &[&str]| -> Vec<(usize, String, Option<String>)> {
        parsed(words).data.into_iter().map(|data| (data.index, data.key, data.value)).collect()
    };
    let text = |index: usize, key: &str, value: &str| (index, key.to_owned(), Some(value.to_owned()));
    assert_eq!(
        data(&["ro", "newinstance", "a=b=c", "x="]),
        [(1, "newinstance".to_owned(), None), text(2, "a", "b=c"), text(3, "x", "")]
    );
    assert_eq!(data(&["mode=755,size=1k"]), [text(0, "mode", "755"), text(0, "size", "1k")]);
    assert_eq!(
        data(&["context=\"u:r:t:s0:c1,c2\",huge=never"]),
        [text(0, "context", "u:r:t:s0:c1,c2"), text(0, "huge", "never")]
    );
    assert_eq!(data(&["lowerdir=/a\\,b"]), [text(0, "lowerdir", "/a\\,b")]);
    assert_eq!(data(&["", ","]), []);
}

#[test]
fn the_table_of_words() {
    let words: Vec<_> = options::words().collect();
    assert!(words.is_sorted() && words.windows(2).all(|pair| pair[0] != pair[1]));
    // what runc 1.1 prints
    for word in [
        "acl",
        "async",
        "atime",
        "bind",
        "defaults",
        "dev",
        "diratime",
        "dirsync",
        "exec",
        "iversion",
        "lazytime",
        "loud",
        "mand",
        "noacl",
        "noatime",
        "nodev",
        "nodiratime",
        "noexec",
        "noiversion",
        "nolazytime",
        "nomand",
        "norelatime",
        "nostrictatime",
        "nosuid",
        "nosymfollow",
        "private",
        "ratime",
        "rbind",
        "rdev",
        "rdiratime",
        "relatime",
        "remount",
        "rexec",
        "rnoatime",
        "rnodev",
        "rnodiratime",
        "rnoexec",
        "rnorelatime",
        "rnostrictatime",
        "rnosuid",
        "rnosymfollow",
        "ro",
        "rprivate",
        "rrelatime",
        "rro",
        "rrw",
        "rshared",
        "rslave",
        "rstrictatime",
        "rsuid",
        "rsymfollow",
        "runbindable",
        "rw",
        "shared",
        "silent",
        "slave",
        "strictatime",
        "suid",
        "symfollow",
        "sync",
        "tmpcopyup",
        "unbindable",
    ] {
        assert!(words.contains(&word), "{word}");
        // and none is taken for data
        let options = ["bind", word];
        if word != "remount" {
            let (mount, _) = mount(json!({"destination": "/x", "source": "/y", "options": options}));
            assert!(mount.options.data.is_empty(), "{word}");
        }
    }
}
