//! Who the program is: user, capabilities, limits, and the order in which the kernel lets them be set
//! (design: user namespaces first, seccomp last).

use crate::config::{Capabilities, Config};
use crate::host::Host;

use super::step::{Setgroups, Step};
use super::{Draft, namespaces};

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// With `privileged` CAP_SYS_ADMIN stays until a filter is loaded: what the sets are to be then is given back.
pub(super) fn plan(
    draft: &mut Draft,
    config: &Config,
    host: &Host,
    setgroups: Setgroups,
    privileged: bool,
) -> Option<Capabilities> {
    let process = &config.process;
    if !process.rlimits.is_empty() {
        draft.step_at("/process/rlimits", Step::Rlimits { rlimits: process.rlimits.clone() });
    }
    draft.step_at("/process/cwd", Step::Chdir { path: process.cwd.clone() });
    // as with runc and crun, none named are none given
    let have = namespaces::capabilities(config, host);
    let capabilities = grantable(draft, process.capabilities.unwrap_or_default(), have);
    let kept = if privileged { CAP_SYS_ADMIN & have } else { 0 };
    let until_filter = Capabilities {
        permitted: capabilities.permitted | kept,
        effective: capabilities.effective | kept,
        ..capabilities
    };
    draft.step_at("/process/capabilities/bounding", Step::BoundingSet { keep: capabilities.bounding });
    let user = &process.user;
    draft.step_at(
        "/process/user",
        Step::User {
            uid: user.uid,
            gid: user.gid,
            groups: user.additional_gids.clone(),
            keep: user.uid != 0 && until_filter.permitted != 0,
            setgroups,
        },
    );
    draft.step_at("/process/capabilities", Step::Capabilities(until_filter));
    draft.step_at("/process/cwd", Step::ProveCwd { path: process.cwd.clone() });
    (until_filter != capabilities).then_some(capabilities)
}

/// What this process can hand on of what is wanted; the rest is a warning, as the spec says.
fn grantable(draft: &mut Draft, wanted: Capabilities, have: u64) -> Capabilities {
    let granted = Capabilities {
        bounding: wanted.bounding,
        permitted: wanted.permitted & have,
        effective: wanted.effective & wanted.permitted & have,
        inheritable: wanted.inheritable & have,
        ambient: wanted.ambient & wanted.permitted & wanted.inheritable & have,
    };
    let missing = (wanted.permitted | wanted.effective | wanted.inheritable | wanted.ambient) & !have;
    if missing != 0 {
        draft
            .warnings
            .push(format!("capabilities that this process does not have cannot be granted: {}", names(missing)));
    }
    let unusable = (wanted.effective & !wanted.permitted) | (wanted.ambient & !(wanted.permitted & wanted.inheritable));
    if unusable & have != 0 {
        draft.warnings.push(format!(
            "effective or ambient capabilities that are not permitted are left out: {}",
            names(unusable & have)
        ));
    }
    granted
}

fn names(mask: u64) -> String {
    let names: Vec<String> = caps::all()
        .into_iter()
        .filter(|capability| mask & capability.bitmask() != 0)
        .map(|capability| capability.to_string())
        .collect();
    let mut names = names;
    names.sort();
    names.join(", ")
}
