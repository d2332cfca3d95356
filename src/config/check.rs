//! The whole file: what belongs to no other part, and the order of the parts.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use oci_spec::runtime::{Linux, Root as SpecRoot, Spec};

use super::at::{At, ROOT};
use super::load::{self, Parsed};
use super::{
    Config, IdMaps, Namespace, Namespaces, Process, Root, devices, hooks, landlock, mounts, namespaces, resources,
    seccomp, security, sysctl,
};
use crate::error::Result;

/// uname(2): what the kernel stores without the NUL.
const UTS_LENGTH: usize = 64;

impl Config {
    /// From the bytes of a config.json.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let Parsed { spec, mut warnings } = load::parse(bytes)?;
        let mut config = Self::check(&spec)?;
        warnings.append(&mut config.warnings);
        config.warnings = warnings;
        Ok(config)
    }

    /// From a file that was parsed already.
    pub fn check(spec: &Spec) -> Result<Self> {
        let mut warnings = Vec::new();
        let oci_version = version(spec.version())?;
        let Some(process) = spec.process() else {
            return Err(ROOT.key("process").error("process property must not be empty"));
        };
        let at = ROOT.key("linux");
        let Some(linux) = spec.linux() else { return Err(at.missing()) };
        let namespaces = namespaces::check(linux, &at.key("namespaces"))?;
        unsupported(linux, &at)?;
        let id_maps = namespaces::mappings(linux, &namespaces.user, &at)?;
        let mut root = root(spec.root().as_ref())?;
        root.propagation = security::propagation(linux, &at.key("rootfsPropagation"))?;
        let annotations = annotations(spec.annotations().as_ref())?;
        let process = Process::check(process, &mut warnings)?;
        let landlock = landlock::check(&annotations)?;
        landlock::check_process(landlock.as_ref(), &process)?;
        process.check_ids(&id_maps)?;
        let devices = devices::check(linux.devices().as_deref().unwrap_or_default(), &at.key("devices"))?;
        devices::check_ids(&devices, &id_maps)?;
        let mut mounts =
            mounts::check(spec.mounts().as_deref().unwrap_or_default(), &namespaces, &id_maps, &mut warnings)?;
        mounts::check_ids(&mut mounts, &id_maps, &mut warnings)?;
        Ok(Self {
            oci_version,
            root,
            mounts,
            process,
            hostname: uts_name(spec.hostname().as_deref(), "hostname", &namespaces)?,
            domainname: uts_name(spec.domainname().as_deref(), "domainname", &namespaces)?,
            id_maps,
            time_offsets: namespaces::time_offsets(linux, &namespaces, &at.key("timeOffsets"))?,
            devices,
            masked_paths: security::restricted(linux.masked_paths().as_deref(), &namespaces, &at.key("maskedPaths"))?,
            readonly_paths: security::restricted(
                linux.readonly_paths().as_deref(),
                &namespaces,
                &at.key("readonlyPaths"),
            )?,
            sysctl: sysctl::check(linux.sysctl().as_ref(), &namespaces, &at.key("sysctl"))?,
            seccomp: linux.seccomp().as_ref().map(seccomp::check).transpose()?,
            mount_label: security::label(linux.mount_label().as_deref(), &at.key("mountLabel"))?,
            personality: security::personality(linux.personality().as_ref(), &at.key("personality"))?,
            memory_policy: security::memory_policy(linux.memory_policy().as_ref(), &at.key("memoryPolicy"))?,
            resources: resources::check(linux.resources().as_ref(), &at.key("resources"), &mut warnings)?,
            cgroups_path: cgroups_path(linux, &at.key("cgroupsPath"))?,
            hooks: spec.hooks().as_ref().map(hooks::check).transpose()?.unwrap_or_default(),
            landlock,
            annotations,
            namespaces,
            warnings,
        })
    }
}

impl Config {
    /// In a new user namespace with these ids, where config.json has none: what unprivileged callers get. Empty maps are
    /// those of a container that exists.
    ///
    /// # Errors
    /// Who is nobody in it.
    pub fn mapped(mut self, maps: IdMaps) -> Result<Self> {
        self.namespaces.user = Namespace::New;
        self = self.within(&maps)?;
        self.id_maps = maps;
        Ok(self)
    }

    /// Without a user namespace of its own, where the runtime's has these ids.
    ///
    /// # Errors
    /// Who is nobody in it.
    pub fn within(mut self, maps: &IdMaps) -> Result<Self> {
        self.process.check_ids(maps)?;
        devices::check_ids(&self.devices, maps)?;
        mounts::check_ids(&mut self.mounts, maps, &mut self.warnings)?;
        Ok(self)
    }
}

/// What has no code yet must be no surprise either.
fn unsupported(linux: &Linux, at: &At) -> Result<()> {
    if linux.net_devices().as_ref().is_some_and(|devices| !devices.is_empty()) {
        return Err(at.key("netDevices").error("network devices are not supported yet"));
    }
    #[allow(deprecated, reason = "old files still have these two")]
    let asked = linux.intel_rdt().as_ref().is_some_and(|rdt| {
        rdt.clos_id().is_some()
            || rdt.schemata().as_ref().is_some_and(|lines| !lines.is_empty())
            || rdt.l3_cache_schema().is_some()
            || rdt.mem_bw_schema().is_some()
            || rdt.enable_monitoring().unwrap_or_default()
            || rdt.enable_cmt().unwrap_or_default()
            || rdt.enable_mbm().unwrap_or_default()
    });
    if asked {
        return Err(at.key("intelRdt").error("Intel RDT is not supported yet"));
    }
    Ok(())
}

/// All of 1.x is one specification: what a later minor version adds is an unknown property, to be ignored.
fn version(text: &str) -> Result<String> {
    let at = ROOT.key("ociVersion");
    if text.is_empty() {
        return Err(at.missing());
    }
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<&str> = core.split('.').collect();
    let semantic = numbers.len() == 3
        && numbers.iter().all(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-+".contains(&byte));
    match numbers.first() {
        Some(&"1") if semantic => Ok(text.to_owned()),
        _ if semantic => Err(at.must("1.x, the version of the specification that is supported", text)),
        _ => Err(at.must("a semantic version such as \"1.3.0\"", text)),
    }
}

fn root(root: Option<&SpecRoot>) -> Result<Root> {
    let at = ROOT.key("root");
    let root = root.ok_or_else(|| at.missing())?;
    let at = at.key("path");
    if root.path().as_os_str().is_empty() {
        return Err(at.missing());
    }
    at.no_nul(&root.path().to_string_lossy())?;
    Ok(Root { path: root.path().clone(), readonly: root.readonly().unwrap_or_default(), propagation: None })
}

fn uts_name(name: Option<&str>, key: &str, namespaces: &Namespaces) -> Result<Option<String>> {
    let Some(name) = name.filter(|name| !name.is_empty()) else { return Ok(None) };
    let at = ROOT.key(key);
    if namespaces.uts.is_host() {
        return Err(at.error(format!("unable to set {key} without a private UTS namespace")));
    }
    at.one_line(name)?;
    if name.len() > UTS_LENGTH {
        return Err(at.must(&format!("at most {UTS_LENGTH} bytes long"), name));
    }
    Ok(Some(name.to_owned()))
}

/// Absolute, relative, or systemd's `slice:prefix:name`.
fn cgroups_path(linux: &Linux, at: &At) -> Result<Option<PathBuf>> {
    let Some(path) = linux.cgroups_path().as_ref().filter(|path| !path.as_os_str().is_empty()) else {
        return Ok(None);
    };
    let text = path.to_string_lossy();
    // a newline would forge lines of /proc/PID/cgroup
    at.one_line(&text)?;
    if text.split('/').any(|part| part == "..") {
        return Err(at.must("a path without `..`", path));
    }
    Ok(Some(path.clone()))
}

fn annotations(annotations: Option<&HashMap<String, String>>) -> Result<BTreeMap<String, String>> {
    let at = ROOT.key("annotations");
    let annotations: BTreeMap<String, String> =
        annotations.into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect();
    for (key, value) in &annotations {
        if key.is_empty() {
            return Err(at.error("annotations must not have an empty key"));
        }
        at.key(key).no_nul(key)?;
        at.key(key).no_nul(value)?;
    }
    Ok(annotations)
}
