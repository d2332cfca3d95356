//! What `exec` changes of a process, and the file that replaces it.

use std::path::PathBuf;

use super::at::ROOT;
use super::load::{self, Parsed};
use super::{Capabilities, Config, Hooks, Process, landlock};
use crate::error::{Context, Error, Result};

/// The options of `exec` that are about the process. None and empty leave it as it is.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub args: Vec<String>,
    pub cwd: Option<PathBuf>,
    /// `NAME=value`; the last of a name counts.
    pub env: Vec<String>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub additional_gids: Vec<u32>,
    pub terminal: bool,
    pub no_new_privileges: bool,
    pub apparmor_profile: Option<String>,
    pub selinux_label: Option<String>,
    /// `CAP_` and a name, or only the name.
    pub capabilities: Vec<String>,
}

impl Config {
    /// The container's, for one more process in it: its hooks are about its own life.
    ///
    /// # Errors
    /// What holds for the container's process and not for this one.
    pub fn for_exec(self, process: Process) -> Result<Self> {
        landlock::check_process(self.landlock.as_ref(), &process)?;
        process.check_ids(&self.id_maps)?;
        Ok(Self { process, hooks: Hooks::default(), ..self })
    }
}

impl Process {
    /// Whether ptrace(2) would let it into whatever process it sees.
    pub fn may_trace(&self) -> bool {
        let trace = caps::Capability::CAP_SYS_PTRACE.bitmask();
        self.capabilities.as_ref().is_some_and(|sets| sets.bounding & trace != 0)
    }

    /// From a file that holds a process alone, as `exec --process` takes it.
    ///
    /// # Errors
    /// As for `/process` of a config.json.
    pub fn parse(bytes: &[u8], warnings: &mut Vec<String>) -> Result<Self> {
        serde_json::from_slice::<serde::de::IgnoredAny>(bytes)
            .map_err(|error| Error::new(format!("it is not valid JSON: {error}")))?;
        let whole = [br#"{"ociVersion":"1.0.2","process":"#, bytes, b"}"].concat();
        let Parsed { spec, warnings: mended } = load::parse(&whole)?;
        warnings.extend(mended);
        let process = spec.process().as_ref().ok_or_else(|| ROOT.key("process").missing())?;
        Self::check(process, warnings)
    }

    /// With what the command line changes.
    ///
    /// # Errors
    /// The same rules as for config.json hold.
    pub fn with(mut self, overrides: &Overrides) -> Result<Self> {
        let at = ROOT.key("process");
        self.terminal = overrides.terminal;
        if !overrides.args.is_empty() {
            self.args = super::process::args(&overrides.args, &at.key("args"))?;
        }
        if let Some(cwd) = &overrides.cwd {
            at.key("cwd").absolute(cwd)?;
            self.cwd.clone_from(cwd);
        }
        let env: Vec<String> = self.env.iter().chain(&overrides.env).cloned().collect();
        self.env = super::process::env(&env, &at.key("env"))?;
        self.user.uid = overrides.uid.unwrap_or(self.user.uid);
        self.user.gid = overrides.gid.unwrap_or(self.user.gid);
        self.user.additional_gids.extend(&overrides.additional_gids);
        // by whatever way they came: -1 leaves root what it is
        super::process::check_id(self.user.uid, &at.key("user").key("uid"))?;
        super::process::check_id(self.user.gid, &at.key("user").key("gid"))?;
        for gid in &self.user.additional_gids {
            super::process::check_id(*gid, &at.key("user").key("additionalGids"))?;
        }
        self.no_new_privileges |= overrides.no_new_privileges;
        if let Some(profile) = &overrides.apparmor_profile {
            self.apparmor_profile = super::security::label(Some(profile), &at.key("apparmorProfile"))?;
        }
        if let Some(label) = &overrides.selinux_label {
            self.selinux_label = super::security::label(Some(label), &at.key("selinuxLabel"))?;
        }
        if !overrides.capabilities.is_empty() {
            self.capabilities = Some(self.capabilities.unwrap_or_default().with(&overrides.capabilities)?);
        }
        Ok(self)
    }
}

impl Capabilities {
    /// In every set but the inheritable and ambient ones, as runc adds them.
    fn with(mut self, names: &[String]) -> Result<Self> {
        for name in names {
            let full = name.to_ascii_uppercase();
            let full = if full.starts_with("CAP_") { full } else { format!("CAP_{full}") };
            let capability = full
                .parse::<caps::Capability>()
                .map_err(|_| Error::new(format!("unknown capability {name:?}")))
                .context(|| "--cap".to_owned())?;
            let bit = capability.bitmask();
            self.bounding |= bit;
            self.effective |= bit;
            self.permitted |= bit;
        }
        Ok(self)
    }
}
