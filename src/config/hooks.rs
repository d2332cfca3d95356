//! `/hooks`.

use oci_spec::runtime::{Hook as SpecHook, Hooks as SpecHooks};

use super::at::{At, ROOT};
use super::{Hook, Hooks};
use crate::error::Result;

pub(super) fn check(hooks: &SpecHooks) -> Result<Hooks> {
    #[allow(deprecated, reason = "deprecated in the specification, which still has it run")]
    let prestart = hooks.prestart();
    Ok(Hooks {
        prestart: check_list(prestart.as_deref(), "prestart")?,
        create_runtime: check_list(hooks.create_runtime().as_deref(), "createRuntime")?,
        create_container: check_list(hooks.create_container().as_deref(), "createContainer")?,
        start_container: check_list(hooks.start_container().as_deref(), "startContainer")?,
        poststart: check_list(hooks.poststart().as_deref(), "poststart")?,
        poststop: check_list(hooks.poststop().as_deref(), "poststop")?,
    })
}

fn check_list(hooks: Option<&[SpecHook]>, kind: &str) -> Result<Vec<Hook>> {
    let at = ROOT.key("hooks");
    let at = at.key(kind);
    hooks.unwrap_or_default().iter().enumerate().map(|(index, hook)| check_hook(hook, &at.index(index))).collect()
}

fn check_hook(hook: &SpecHook, at: &At) -> Result<Hook> {
    if hook.path().as_os_str().is_empty() {
        return Err(at.key("path").missing());
    }
    at.key("path").absolute(hook.path())?;
    for (key, texts) in [("args", hook.args()), ("env", hook.env())] {
        for (index, text) in texts.iter().flatten().enumerate() {
            at.key(key).index(index).no_nul(text)?;
        }
    }
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) => match u64::try_from(seconds) {
            Ok(seconds) if seconds > 0 => Some(seconds),
            _ => return Err(at.key("timeout").must("greater than zero", seconds)),
        },
    };
    Ok(Hook {
        path: hook.path().clone(),
        args: hook.args().clone().unwrap_or_default(),
        env: hook.env().clone().unwrap_or_default(),
        timeout,
    })
}
