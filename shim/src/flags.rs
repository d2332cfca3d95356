//! The command line, as Go's flag package reads it: `-x v`, `-x=v`, `--x`; it ends at the first word that is none.

use std::path::PathBuf;

use ferrun::error::{Error, Result};

/// What containerd calls a shim with: core/runtime/v2/binary.go of containerd.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) namespace: String,
    pub(crate) id: String,
    /// containerd's gRPC socket.
    pub(crate) address: String,
    /// A program that would publish events, from before they went over ttrpc.
    pub(crate) publish_binary: String,
    /// Of `delete` only.
    pub(crate) bundle: Option<PathBuf>,
    /// Of the daemon: the path of the socket that it inherits.
    pub(crate) socket: Option<PathBuf>,
    pub(crate) debug: bool,
    pub(crate) version: bool,
    pub(crate) info: bool,
    /// `start`, `delete`; none for the daemon.
    pub(crate) action: Option<String>,
}

impl Flags {
    /// # Errors
    /// An option that is not known, has no value, or one that is not true or false.
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut flags = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let Some(name) = argument.strip_prefix('-').filter(|name| !name.is_empty()) else {
                flags.action = Some(argument);
                break;
            };
            if name == "-" {
                flags.action = arguments.next();
                break;
            }
            let name = name.strip_prefix('-').unwrap_or(name);
            let (name, value) = match name.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (name, None),
            };
            flags.set(name, value, &mut arguments)?;
        }
        Ok(flags)
    }

    fn set(&mut self, name: &str, value: Option<String>, rest: &mut dyn Iterator<Item = String>) -> Result<()> {
        if let Some(switch) = self.switch(name) {
            *switch = match value.as_deref() {
                None | Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
                Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
                Some(other) => return Err(Error::new(format!("option -{name}: {other:?} is neither true nor false"))),
            };
            return Ok(());
        }
        let missing = || Error::new(format!("option -{name}: a value is wanted"));
        let value = || value.or_else(|| rest.next()).ok_or_else(missing);
        match name {
            "namespace" => self.namespace = value()?,
            "id" => self.id = value()?,
            "address" => self.address = value()?,
            "publish-binary" => self.publish_binary = value()?,
            "bundle" => self.bundle = Some(value()?.into()),
            "socket" => self.socket = Some(value()?.into()),
            _ => return Err(Error::new(format!("unknown option -{name}"))),
        }
        Ok(())
    }

    fn switch(&mut self, name: &str) -> Option<&mut bool> {
        match name {
            "debug" => Some(&mut self.debug),
            "v" | "version" => Some(&mut self.version),
            "info" => Some(&mut self.info),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Flags;

    fn parse(line: &str) -> ferrun::error::Result<Flags> {
        Flags::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn as_containerd_calls() {
        let line = "-namespace default -address /run/containerd/containerd.sock -publish-binary /usr/bin/containerd -id web -debug start";
        let flags = parse(line).expect("flags");
        let expected = Flags {
            namespace: "default".into(),
            id: "web".into(),
            address: "/run/containerd/containerd.sock".into(),
            publish_binary: "/usr/bin/containerd".into(),
            debug: true,
            action: Some("start".into()),
            ..Flags::default()
        };
        assert_eq!(flags, expected);
        assert_eq!(parse("--id=web -bundle=/b delete").expect("flags").bundle, Some("/b".into()));
        assert_eq!(parse("-id a=b start -debug").expect("flags").id, "a=b");
        assert!(!parse("-id a=b start -debug").expect("flags").debug, "options end at the action");
        assert!(parse("-info").expect("flags").info);
        assert!(!parse("-debug=false start").expect("flags").debug);
    }

    #[test]
    fn mistakes() {
        for line in ["-id", "-nope x", "-debug=maybe start", "-=x"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
