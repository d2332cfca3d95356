//! Where a message bus listens: the addresses of the D-Bus specification, as far as buses use them.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::host::systemd_uid;
use crate::plan::cgroupfs::Bus;

/// A socket of the family `AF_UNIX`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

/// The bus's addresses in the order of trying, each with who says so.
pub(super) fn addresses(bus: Bus) -> Result<Vec<(String, Address)>> {
    addresses_by(bus, systemd_uid()?, |name| std::env::var(name).ok().filter(|value| !value.is_empty()))
}

fn addresses_by(bus: Bus, uid: u32, env: impl Fn(&str) -> Option<String>) -> Result<Vec<(String, Address)>> {
    let variable = match bus {
        Bus::System => "DBUS_SYSTEM_BUS_ADDRESS",
        Bus::User => "DBUS_SESSION_BUS_ADDRESS",
    };
    if let Some(value) = env(variable) {
        let addresses: Vec<_> =
            value.split(';').filter_map(parse).map(|address| (format!("{variable}={value}"), address)).collect();
        if addresses.is_empty() {
            return Err(Error::new(format!("{variable}={value}: only unix:path= and unix:abstract= are supported")));
        }
        return Ok(addresses);
    }
    let path = |path: String| (path.clone(), Address::Path(path.into()));
    Ok(match bus {
        Bus::System => vec![path("/run/dbus/system_bus_socket".to_owned())],
        Bus::User => {
            let runtime = env("XDG_RUNTIME_DIR").map(|directory| format!("{directory}/bus"));
            let usual = format!("/run/user/{uid}/bus");
            let runtime = runtime.filter(|runtime| *runtime != usual);
            runtime.into_iter().chain([usual]).map(path).collect()
        }
    })
}

/// One of the addresses that a semicolon separates; keys that we do not know (`guid`) change nothing.
fn parse(address: &str) -> Option<Address> {
    address.strip_prefix("unix:")?.split(',').find_map(|pair| match pair.split_once('=')? {
        ("path", value) => Some(Address::Path(String::from_utf8(unescape(value)?).ok()?.into())),
        ("abstract", value) => Some(Address::Abstract(unescape(value)?)),
        _ => None,
    })
}

/// `%2f` is a slash.
fn unescape(value: &str) -> Option<Vec<u8>> {
    let mut bytes = value.bytes();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        plain.push(if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
        } else {
            byte
        });
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(bus: Bus, variables: &[(&str, &str)]) -> Result<Vec<Address>> {
        let env = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Ok(addresses_by(bus, 1000, env)?.into_iter().map(|(_, address)| address).collect())
    }

    #[test]
    fn the_environment_counts_first() {
        let path = |path: &str| Address::Path(path.into());
        assert_eq!(found(Bus::System, &[]).expect("bus"), [path("/run/dbus/system_bus_socket")]);
        assert_eq!(found(Bus::User, &[]).expect("bus"), [path("/run/user/1000/bus")]);
        assert_eq!(
            found(Bus::User, &[("XDG_RUNTIME_DIR", "/tmp/x")]).expect("bus"),
            [path("/tmp/x/bus"), path("/run/user/1000/bus")]
        );
        let session = [("DBUS_SESSION_BUS_ADDRESS", "tcp:host=a;unix:path=/a%20b,guid=1;unix:abstract=/c")];
        assert_eq!(found(Bus::User, &session).expect("bus"), [path("/a b"), Address::Abstract(b"/c".to_vec())]);
        assert_eq!(found(Bus::System, &session).expect("bus"), [path("/run/dbus/system_bus_socket")]);
    }

    #[test]
    fn other_transports_are_refused_by_name() {
        let error = found(Bus::System, &[("DBUS_SYSTEM_BUS_ADDRESS", "tcp:host=a")]).expect_err("tcp");
        assert!(error.to_string().contains("DBUS_SYSTEM_BUS_ADDRESS=tcp:host=a"), "{error}");
    }
}
