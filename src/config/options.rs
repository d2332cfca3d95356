//! `/mounts/N/options`: what each word means.
//!
//! The words are those of runc, crun and mount(8). Whatever is not in the table is told to the file system.

use super::at::At;
use super::{IdMapping, IdMaps, Idmap, MountAttr, MountData, MountOptions, Propagation, PropagationKind, ids};
use crate::error::Result;

/// mount_setattr(2).
const RDONLY: u64 = 0x1;
const NOSUID: u64 = 0x2;
const NODEV: u64 = 0x4;
const NOEXEC: u64 = 0x8;
/// The access time field: one of the next three, not a sum of bits.
const ATIME: u64 = 0x70;
const RELATIME: u64 = 0x00;
const NOATIME: u64 = 0x10;
const STRICTATIME: u64 = 0x20;
const NODIRATIME: u64 = 0x80;
const NOSYMFOLLOW: u64 = 0x20_0000;

#[derive(Clone, Copy)]
enum Word {
    Set(Depth, u64),
    Clear(Depth, u64),
    Atime(Depth, u64),
    /// Not this access time, but the kernel's default.
    NotAtime(Depth, u64),
    Propagation(PropagationKind, bool),
    Bind(bool),
    Remount,
    /// fsconfig(2) takes it by this name.
    Superblock(&'static str),
    Idmap(bool),
    TmpCopyUp,
    CopySymlink,
    SrcNofollow,
    DestNofollow,
    /// Means nothing to the new mount API.
    Nothing,
}

#[derive(Clone, Copy, PartialEq)]
enum Depth {
    Mount,
    Tree,
}

use Depth::{Mount, Tree};
use PropagationKind::{Private, Shared, Slave, Unbindable};
use Word::{Atime, Clear, NotAtime, Nothing, Set, Superblock};

/// Sorted, for the search and for `features`.
#[rustfmt::skip]
static WORDS: &[(&str, Word)] = &[
    // MS_POSIXACL, acl and noacl: no fsconfig key; file systems with ACLs have them on by default
    ("acl", Nothing),
    ("async", Superblock("async")),
    ("atime", NotAtime(Mount, NOATIME)),
    ("bind", Word::Bind(false)),
    // crun's: a source that is a symlink becomes that symlink in the container
    ("copy-symlink", Word::CopySymlink),
    // the absence of all others
    ("defaults", Nothing),
    // crun's: a destination that is a symlink is mounted on, not followed
    ("dest-nofollow", Word::DestNofollow),
    ("dev", Clear(Mount, NODEV)),
    ("diratime", Clear(Mount, NODIRATIME)),
    ("dirsync", Superblock("dirsync")),
    ("exec", Clear(Mount, NOEXEC)),
    ("idmap", Word::Idmap(false)),
    // MS_I_VERSION: no fsconfig key; file systems that count changes always do
    ("iversion", Nothing),
    ("lazytime", Superblock("lazytime")),
    // MS_SILENT: the new mount API has messages of its own
    ("loud", Nothing),
    ("mand", Superblock("mand")),
    ("noacl", Nothing),
    ("noatime", Atime(Mount, NOATIME)),
    ("nodev", Set(Mount, NODEV)),
    ("nodiratime", Set(Mount, NODIRATIME)),
    ("noexec", Set(Mount, NOEXEC)),
    ("noiversion", Nothing),
    ("nolazytime", Superblock("nolazytime")),
    ("nomand", Superblock("nomand")),
    ("norelatime", NotAtime(Mount, RELATIME)),
    ("nostrictatime", NotAtime(Mount, STRICTATIME)),
    ("nosuid", Set(Mount, NOSUID)),
    ("nosymfollow", Set(Mount, NOSYMFOLLOW)),
    ("private", Word::Propagation(Private, false)),
    // crun's rasync, rdirsync, rmand, rsync: a superblock has no depth, so they are the plain ones
    ("rasync", Superblock("async")),
    ("ratime", NotAtime(Tree, NOATIME)),
    ("rbind", Word::Bind(true)),
    ("rdev", Clear(Tree, NODEV)),
    ("rdiratime", Clear(Tree, NODIRATIME)),
    ("rdirsync", Superblock("dirsync")),
    ("relatime", Atime(Mount, RELATIME)),
    ("remount", Word::Remount),
    ("rexec", Clear(Tree, NOEXEC)),
    ("ridmap", Word::Idmap(true)),
    ("rmand", Superblock("mand")),
    ("rnoatime", Atime(Tree, NOATIME)),
    ("rnodev", Set(Tree, NODEV)),
    ("rnodiratime", Set(Tree, NODIRATIME)),
    ("rnoexec", Set(Tree, NOEXEC)),
    ("rnomand", Superblock("nomand")),
    ("rnorelatime", NotAtime(Tree, RELATIME)),
    ("rnostrictatime", NotAtime(Tree, STRICTATIME)),
    ("rnosuid", Set(Tree, NOSUID)),
    ("rnosymfollow", Set(Tree, NOSYMFOLLOW)),
    ("ro", Set(Mount, RDONLY)),
    ("rprivate", Word::Propagation(Private, true)),
    ("rrelatime", Atime(Tree, RELATIME)),
    ("rro", Set(Tree, RDONLY)),
    ("rrw", Clear(Tree, RDONLY)),
    ("rshared", Word::Propagation(Shared, true)),
    ("rslave", Word::Propagation(Slave, true)),
    ("rstrictatime", Atime(Tree, STRICTATIME)),
    ("rsuid", Clear(Tree, NOSUID)),
    ("rsymfollow", Clear(Tree, NOSYMFOLLOW)),
    ("rsync", Superblock("sync")),
    ("runbindable", Word::Propagation(Unbindable, true)),
    ("rw", Clear(Mount, RDONLY)),
    ("shared", Word::Propagation(Shared, false)),
    ("silent", Nothing),
    ("slave", Word::Propagation(Slave, false)),
    // crun's: a source that is a symlink is bound itself
    ("src-nofollow", Word::SrcNofollow),
    ("strictatime", Atime(Mount, STRICTATIME)),
    ("suid", Clear(Mount, NOSUID)),
    ("symfollow", Clear(Mount, NOSYMFOLLOW)),
    ("sync", Superblock("sync")),
    ("tmpcopyup", Word::TmpCopyUp),
    ("unbindable", Word::Propagation(Unbindable, false)),
];

/// All words that have a meaning here, sorted: `mountOptions` of `features`.
pub fn words() -> impl Iterator<Item = &'static str> {
    WORDS.iter().map(|(word, _)| *word)
}

/// A list of words, sorted out.
#[derive(Default)]
pub(super) struct Parsed {
    pub(super) options: MountOptions,
    /// And whether recursively.
    pub(super) bind: Option<bool>,
    pub(super) remount: bool,
}

/// `own` are the container's mappings, which those of a mount may be relative to.
///
/// Of two words about the same thing the last counts.
pub(super) fn parse(words: &[String], own: &IdMaps, at: &At) -> Result<Parsed> {
    let mut parsed = Parsed::default();
    for (index, text) in words.iter().enumerate() {
        let at = at.index(index);
        at.one_line(text)?;
        if let Ok(found) = WORDS.binary_search_by_key(&text.as_str(), |(word, _)| word) {
            if let Some((_, word)) = WORDS.get(found) {
                apply(&mut parsed, *word);
            }
        } else if let Some((word @ ("idmap" | "ridmap"), lists)) = text.split_once('=') {
            let maps = custom_idmap(lists, text, own, &at)?;
            parsed.options.idmap = Some(Idmap { recursive: word == "ridmap", maps });
        } else {
            add_data(&mut parsed.options.data, text, index, &at)?;
        }
    }
    Ok(parsed)
}

fn apply(parsed: &mut Parsed, word: Word) {
    let options = &mut parsed.options;
    match word {
        Set(depth, bit) => {
            let attr = attr(options, depth);
            attr.set |= bit;
            attr.clear &= !bit;
        }
        Clear(depth, bit) => {
            let attr = attr(options, depth);
            attr.set &= !bit;
            attr.clear |= bit;
        }
        Atime(depth, value) => set_atime(attr(options, depth), value),
        NotAtime(depth, value) => {
            let attr = attr(options, depth);
            let named = attr.clear & ATIME != 0;
            // "norelatime" alone asks for nothing: there is no other default to fall back to
            if value != RELATIME && (!named || attr.set & ATIME == value) {
                set_atime(attr, RELATIME);
            }
        }
        Word::Propagation(kind, recursive) => options.propagation.push(Propagation { kind, recursive }),
        Word::Bind(recursive) => parsed.bind = Some(recursive || parsed.bind == Some(true)),
        Word::Remount => parsed.remount = true,
        Superblock(name) => options.flags.push(name.to_owned()),
        Word::Idmap(recursive) => options.idmap.get_or_insert_default().recursive = recursive,
        Word::TmpCopyUp => options.tmpcopyup = true,
        Word::CopySymlink => options.copy_symlink = true,
        Word::SrcNofollow => options.src_nofollow = true,
        Word::DestNofollow => options.dest_nofollow = true,
        Nothing => {}
    }
}

fn attr(options: &mut MountOptions, depth: Depth) -> &mut MountAttr {
    match depth {
        Mount => &mut options.attr,
        Tree => &mut options.recursive_attr,
    }
}

/// The kernel wants the whole field cleared by whoever sets it.
fn set_atime(attr: &mut MountAttr, value: u64) {
    attr.set = attr.set & !ATIME | value;
    attr.clear |= ATIME;
}

/// mount(2) took all data as one string, so that one word may hold several; fsconfig(2) takes them singly.
fn add_data(data: &mut Vec<MountData>, text: &str, index: usize, at: &At) -> Result<()> {
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|c: char| {
        let separator = c == ',' && !quoted && !escaped;
        quoted ^= c == '"';
        escaped = c == '\\' && !escaped;
        separator
    });
    for part in parts.filter(|part| !part.is_empty()) {
        let (key, value) = match part.split_once('=') {
            Some((key, value)) => (key, Some(unquoted(key, value).to_owned())),
            None => (part, None),
        };
        if key.is_empty() {
            return Err(at.must("a word or key=value", text));
        }
        data.push(MountData { index, key: key.to_owned(), value });
    }
    Ok(())
}

/// An SELinux context is quoted for its commas; mount(2)'s parser took the quotes away, fsconfig(2) does not.
fn unquoted<'a>(key: &str, value: &'a str) -> &'a str {
    if matches!(key, "context" | "fscontext" | "defcontext" | "rootcontext") {
        value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
    } else {
        value
    }
}

/// crun's `idmap=uids=0-1-10#10-11-10;gids=0-100-10`: from, to, how many; `@` before it: `to` is an id of the
/// container's.
fn custom_idmap(lists: &str, text: &str, own: &IdMaps, at: &At) -> Result<IdMaps> {
    let malformed = || at.must("idmap=uids=[@]FROM-TO-SIZE[#…];gids=[@]FROM-TO-SIZE[#…]", text);
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for list in lists.split(';').filter(|list| !list.is_empty()) {
        let (target, own, ranges) = match list.split_once('=') {
            Some(("uids", ranges)) => (&mut uids, &own.uids, ranges),
            Some(("gids", ranges)) => (&mut gids, &own.gids, ranges),
            _ => return Err(malformed()),
        };
        for range in ranges.split('#').filter(|range| !range.is_empty()) {
            match range.strip_prefix('@') {
                None => target.push(mapping(range).ok_or_else(malformed)?),
                Some(range) => {
                    let relative = mapping(range).ok_or_else(malformed)?;
                    let absolute = ids::absolute(relative, own).ok_or_else(|| {
                        at.must("relative to ids that the container's own uidMappings and gidMappings have", text)
                    })?;
                    target.extend(absolute);
                }
            }
        }
    }
    if uids.is_empty() || gids.is_empty() {
        return Err(malformed());
    }
    // its own pointer would go on into the word
    if ids::check(&uids, at).and(ids::check(&gids, at)).is_err() {
        return Err(at.must("of ranges that do not overlap and do not end beyond 4294967294", text));
    }
    Ok(IdMaps { uids, gids })
}

fn mapping(range: &str) -> Option<IdMapping> {
    let mut numbers = range.split('-').map(|number| number.parse().ok());
    let mapping = IdMapping { container_id: numbers.next()??, host_id: numbers.next()??, size: numbers.next()?? };
    numbers.next().is_none().then_some(mapping)
}
