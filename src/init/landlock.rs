//! Landlock: the last thing that is taken away before the execve.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, openat2};

use crate::error::{Call, Context, Error, Result};
use crate::plan::step::{Landlock, PathAccess};
use crate::sys::root::file_type;

/// The rights of Linux 6.10. Not those of whatever runs: a newer kernel must not refuse a container what an older
/// one has allowed it.
const RIGHTS: ABI = ABI::V5;

/// Refuses this process and all that it becomes what `rules` do not allow.
pub(super) fn restrict(rules: &Landlock) -> Result<()> {
    let scopes = [(rules.scope_signal, Scope::Signal), (rules.scope_abstract_unix_socket, Scope::AbstractUnixSocket)];
    let scopes = scopes.into_iter().filter(|(asked, _)| *asked).fold(BitFlags::empty(), |all, (_, scope)| all | scope);
    // what this kernel cannot enforce is an error
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if rules.paths.is_some() {
        ruleset = ruleset.handle_access(AccessFs::from_all(RIGHTS)).map_err(refused)?;
    }
    let ports = [(&rules.bind_tcp, AccessNet::BindTcp), (&rules.connect_tcp, AccessNet::ConnectTcp)];
    for (_, access) in ports.iter().filter(|(ports, _)| ports.is_some()) {
        ruleset = ruleset.handle_access(*access).map_err(refused)?;
    }
    if !scopes.is_empty() {
        ruleset = ruleset.scope(scopes).map_err(refused)?;
    }
    let mut ruleset = ruleset.create().map_err(refused)?;
    for rule in rules.paths.iter().flatten() {
        let key = format!("dev.ferrun.landlock.{}", rule.access.name());
        let beneath = beneath(&rule.path, rule.access)
            .context(|| format!("{key}: allow {}", rule.path.display()))
            .at(|| format!("/annotations/{key}"))?;
        ruleset = ruleset.add_rule(beneath).map_err(refused)?;
    }
    for (ports, access) in ports {
        for port in ports.iter().flatten() {
            ruleset = ruleset.add_rule(NetPort::new(*port, access)).map_err(refused)?;
        }
    }
    ruleset.restrict_self().map_err(refused).map(drop)
}

/// A link of the image's would choose what is allowed: none is followed.
fn beneath(path: &Path, access: PathAccess) -> Result<PathBeneath<std::os::fd::OwnedFd>> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let fd = match openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS) {
        Err(rustix::io::Errno::LOOP) => {
            return Err(
                Error::os("openat2", rustix::io::Errno::LOOP).hint("name the place that the symbolic link leads to")
            );
        }
        result => result.call(|| "openat2".to_owned())?,
    };
    let all = AccessFs::from_all(RIGHTS);
    let rights = match access {
        PathAccess::Read => AccessFs::ReadFile | AccessFs::ReadDir,
        PathAccess::Execute => AccessFs::from_read(RIGHTS),
        PathAccess::Write => all & !BitFlags::from(AccessFs::Execute),
        PathAccess::All => all,
    };
    let directory = file_type(&fd).call(|| "fstat".to_owned())? == FileType::Directory;
    Ok(PathBeneath::new(fd, if directory { rights } else { rights & AccessFs::from_file(RIGHTS) }))
}

fn refused(error: RulesetError) -> Error {
    Error::new(error.to_string())
        .hint("paths need Linux 6.10, ports 6.7, scopes 6.12, and Landlock among the LSMs of the kernel")
}
