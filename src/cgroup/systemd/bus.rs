//! A connection to a message bus: method calls one after the other, and signals. Every wait has a deadline.
//!
//! zbus does the marshalling. Its connections are not used: they want an async runtime, and no wait has a deadline.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};
use zbus::wire::serialized::{Context, Data};
use zbus::wire::{Endian, to_bytes};
use zbus::{ObjectPath, Signature, Type, Variant};

use crate::error::{Call, Error, Result};
use crate::plan::cgroupfs;

use super::address::{Address, addresses};

/// How long one command waits for the bus, all its connections together.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// What is left of it, in milliseconds. What a command takes back after a time-out must not wait as long again.
static PATIENCE: AtomicU64 = AtomicU64::new(DEADLINE.as_millis() as u64);

/// More than any answer has; the specification allows 128 MiB.
const MAX_MESSAGE: usize = 1 << 20;

const METHOD_CALL: u8 = 1;
const METHOD_RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const NO_REPLY_EXPECTED: u8 = 1;

/// Header fields: D-Bus specification, Header Fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// The first message, which says hello to the bus.
const HELLO: u32 = 1;

/// The fixed part of a message's header, and its fields.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Variant<'a>)>);

/// A method of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Method<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub member: &'a str,
}

/// The bus itself.
const BUS: Method<'static> = Method {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
    member: "",
};

/// A message that came.
#[derive(Debug)]
pub(super) struct Message {
    kind: u8,
    reply_serial: u32,
    pub member: String,
    error: String,
    body: Data<'static, 'static>,
}

/// The answer of whoever was called: no.
#[derive(Debug)]
pub(super) struct Refusal {
    /// `org.freedesktop.systemd1.UnitExists`
    pub name: String,
    pub message: String,
}

pub(super) struct Connection {
    socket: OwnedFd,
    opened: Instant,
    deadline: Instant,
    serial: u32,
    /// Bytes that are not a whole message yet.
    unread: Vec<u8>,
    signals: Vec<Message>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        let waited = self.opened.elapsed().as_millis() as u64;
        PATIENCE.store(PATIENCE.load(Ordering::Relaxed).saturating_sub(waited), Ordering::Relaxed);
    }
}

/// An error of the marshalling.
fn malformed(what: &str, error: &zbus::Error) -> Error {
    Error::new(format!("{what}: {error}"))
}

impl Connection {
    /// Connects and says hello; the answer to that is read with the first one that matters.
    pub(super) fn open(bus: cgroupfs::Bus) -> Result<Self> {
        let opened = Instant::now();
        let deadline = opened + Duration::from_millis(PATIENCE.load(Ordering::Relaxed));
        let mut connection = Self {
            socket: reach(bus, deadline)?,
            opened,
            deadline,
            serial: 0,
            unread: Vec::new(),
            signals: Vec::new(),
        };
        connection.authenticate()?;
        connection.post(&Method { member: "Hello", ..BUS }, &(), 0)?;
        Ok(connection)
    }

    /// SASL EXTERNAL: who we are is what the kernel says. With an empty identity it works in a user namespace too,
    /// where our uid is not what the bus sees.
    fn authenticate(&mut self) -> Result<()> {
        self.write(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        loop {
            if let Some(end) = self.unread.windows(2).position(|two| two == b"\r\n") {
                let line = String::from_utf8_lossy(&self.unread[..end]).into_owned();
                self.unread.drain(..end + 2);
                match line.split(' ').next() {
                    Some("OK") => return Ok(()),
                    Some("DATA") => {}
                    _ => return Err(Error::new(format!("the bus does not let us in: {line}"))),
                }
            } else if self.unread.len() > 4096 {
                return Err(Error::new("what listens there is no message bus"));
            } else {
                self.read("the bus to let us in")?;
            }
        }
    }

    /// Has the bus hand on the signals that `rule` selects.
    pub(super) fn subscribe(&mut self, rule: &str) -> Result<()> {
        self.post(&Method { member: "AddMatch", ..BUS }, &rule, NO_REPLY_EXPECTED).map(drop)
    }

    /// Calls a method and waits for the answer.
    pub(super) fn call<B: Serialize + Type>(
        &mut self,
        method: &Method<'_>,
        body: &B,
    ) -> Result<std::result::Result<Message, Refusal>> {
        let serial = self.post(method, body, 0)?;
        loop {
            let message = self.receive(method.member)?;
            match message.kind {
                SIGNAL => self.signals.push(message),
                METHOD_RETURN if message.reply_serial == serial => return Ok(Ok(message)),
                ERROR if message.reply_serial == serial => return Ok(Err(message.refusal())),
                ERROR if message.reply_serial == HELLO => {
                    return Err(Error::new(format!("the bus refuses us: {}", message.refusal())));
                }
                _ => {}
            }
        }
    }

    /// The next signal, for which `until` at most is waited.
    pub(super) fn signal(&mut self, what: &str, until: Instant) -> Result<Option<Message>> {
        loop {
            if !self.signals.is_empty() {
                return Ok(Some(self.signals.remove(0)));
            }
            if let Some(message) = self.take()? {
                if message.kind == SIGNAL {
                    return Ok(Some(message));
                }
                continue;
            }
            if !self.ready(PollFlags::IN, until.min(self.deadline))? {
                return if until < self.deadline { Ok(None) } else { Err(self.late(what)) };
            }
            self.read(what)?;
        }
    }

    /// One came while an answer was waited for.
    pub(super) fn has_signal(&self) -> bool {
        !self.signals.is_empty()
    }

    /// Until when this connection may wait.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The error of a wait that took too long.
    pub(super) fn late(&self, what: &str) -> Error {
        let seconds = self.deadline.duration_since(self.opened).as_secs();
        if seconds == 0 {
            return Error::new(format!("no answer of systemd ({what}), and this command waited {DEADLINE:?} already"));
        }
        Error::new(format!("no answer of systemd ({what}) within {seconds} s")).hint("is dbus-daemon running?")
    }

    /// Sends a message; its serial number.
    fn post<B: Serialize + Type>(&mut self, method: &Method<'_>, body: &B, flags: u8) -> Result<u32> {
        self.serial += 1;
        let message = encode(method, body, flags, self.serial)
            .map_err(|error| malformed(&format!("write a message ({})", method.member), &error))?;
        self.write(&message)?;
        Ok(self.serial)
    }

    fn receive(&mut self, what: &str) -> Result<Message> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            self.read(what)?;
        }
    }

    /// A message out of what was read, when it is whole.
    fn take(&mut self) -> Result<Option<Message>> {
        let Some(length) = length(&self.unread)? else { return Ok(None) };
        if self.unread.len() < length {
            return Ok(None);
        }
        let rest = self.unread.split_off(length);
        let message = std::mem::replace(&mut self.unread, rest);
        decode(message).map(Some).map_err(|error| malformed("read a message of the bus", &error))
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match send(&self.socket, bytes, SendFlags::NOSIGNAL) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::AGAIN) if self.ready(PollFlags::OUT, self.deadline)? => {}
                Err(Errno::AGAIN) => return Err(self.late("to take our message")),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os("send to the bus", errno)),
            }
        }
        Ok(())
    }

    /// Some more bytes.
    fn read(&mut self, what: &str) -> Result<()> {
        loop {
            let mut bytes = [0; 4096];
            match recv(&self.socket, &mut bytes, RecvFlags::empty()) {
                Ok((_, 0)) => {
                    return Err(Error::new(format!("the bus closed the connection (waiting for {what})"))
                        .hint("is dbus-daemon running?"));
                }
                Ok((_, got)) => {
                    self.unread.extend_from_slice(&bytes[..got]);
                    return Ok(());
                }
                Err(Errno::AGAIN) if self.ready(PollFlags::IN, self.deadline)? => {}
                Err(Errno::AGAIN) => return Err(self.late(what)),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(Error::os(format!("receive from the bus ({what})"), errno)),
            }
        }
    }

    /// False: not in time.
    fn ready(&self, flags: PollFlags, until: Instant) -> Result<bool> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            match poll(&mut [PollFd::new(&self.socket, flags)], Some(&timeout)) {
                Ok(0) if left.is_zero() => return Ok(false),
                Ok(0) | Err(Errno::INTR) => {}
                result => return result.call(|| "poll".to_owned()).map(|_| true),
            }
        }
    }
}

/// A socket to the first address that answers.
fn reach(bus: cgroupfs::Bus, deadline: Instant) -> Result<OwnedFd> {
    let mut tried = Vec::new();
    for (source, address) in addresses(bus)? {
        match connect_to(&address, deadline) {
            Ok(socket) => return Ok(socket),
            Err(errno) => tried.push(format!("{source}: {}", crate::error::errno_words(errno.raw_os_error()))),
        }
    }
    let (whose, hint) = match bus {
        cgroupfs::Bus::System => ("the system's bus", "is dbus-daemon running?"),
        cgroupfs::Bus::User => (
            "the user's bus",
            "log in through systemd-logind, or loginctl enable-linger and set XDG_RUNTIME_DIR; or use --cgroup-manager cgroupfs",
        ),
    };
    Err(Error::new(format!("cannot connect to {whose}: {}", tried.join("; "))).hint(hint))
}

/// Does not block: a stopped bus that has too many callers waiting would keep us for ever.
fn connect_to(address: &Address, deadline: Instant) -> Result<OwnedFd, Errno> {
    let address = match address {
        Address::Path(path) => SocketAddrUnix::new(path)?,
        Address::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    loop {
        match connect(&socket, &address) {
            // its queue is full, and nothing tells when it no longer is
            Err(Errno::AGAIN) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
            Err(Errno::INTR) => {}
            result => return result.map(|()| socket),
        }
    }
}

fn encode<B: Serialize + Type>(method: &Method<'_>, body: &B, flags: u8, serial: u32) -> zbus::Result<Vec<u8>> {
    let context = Context::new(Endian::Little, 0);
    let body_bytes = to_bytes(context, body)?;
    let fields = [
        (PATH, Variant::ObjectPath(ObjectPath::try_from(method.path)?)),
        (INTERFACE, Variant::from(method.interface)),
        (MEMBER, Variant::from(method.member)),
        (DESTINATION, Variant::from(method.destination)),
    ];
    let mut fields: Vec<(u8, Field<'_>)> =
        fields.into_iter().map(|(code, value)| (code, Field::Value(value))).collect();
    if *B::SIGNATURE != Signature::Unit {
        fields.push((SIGNATURE, Field::Signature(B::SIGNATURE)));
    }
    let length = body_bytes.bytes().len() as u32;
    let header = (b'l', METHOD_CALL, flags, 1_u8, length, serial, fields);
    let mut message = to_bytes(context, &header)?.bytes().to_vec();
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend_from_slice(body_bytes.bytes());
    Ok(message)
}

/// The value of a header field.
enum Field<'a> {
    Value(Variant<'a>),
    /// Of a body: its parts one after the other, which are no structure.
    Signature(&'a Signature),
}

impl Type for Field<'_> {
    const SIGNATURE: &'static Signature = &Signature::Variant;
}

impl Serialize for Field<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            // as a Variant does it, but for the parentheses
            Self::Signature(signature) => {
                let mut variant = serializer.serialize_struct("Variant", 2)?;
                variant.serialize_field("signature", &Signature::Signature)?;
                variant.serialize_field("value", &signature.to_string_no_parens())?;
                variant.end()
            }
        }
    }
}

/// How long the message is that begins here; None while even that is not known.
fn length(bytes: &[u8]) -> Result<Option<usize>> {
    let Some((first, _)) = bytes.split_first_chunk::<16>() else { return Ok(None) };
    let number = |at: usize| {
        let word = [first[at], first[at + 1], first[at + 2], first[at + 3]];
        if first[0] == b'B' { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
    };
    let (body, fields) = (number(4) as usize, number(12) as usize);
    if !b"lB".contains(&first[0]) || body > MAX_MESSAGE || fields > MAX_MESSAGE {
        return Err(Error::new("what the bus sends is no message"));
    }
    Ok(Some(16 + fields.next_multiple_of(8) + body))
}

fn decode(bytes: Vec<u8>) -> zbus::Result<Message> {
    let endian = if bytes.first() == Some(&b'B') { Endian::Big } else { Endian::Little };
    let context = Context::new(endian, 0);
    let whole = Data::new(bytes, context);
    let (header, end): (Header<'_>, usize) = whole.deserialize()?;
    let mut message = Message {
        kind: header.1,
        reply_serial: 0,
        member: String::new(),
        error: String::new(),
        body: Data::new(whole.bytes().get(end.next_multiple_of(8)..).unwrap_or_default().to_vec(), context),
    };
    for (code, value) in header.6 {
        match (code, value) {
            (REPLY_SERIAL, Variant::U32(serial)) => message.reply_serial = serial,
            (MEMBER, Variant::Str(member)) => message.member = member.as_str().to_owned(),
            (ERROR_NAME, Variant::Str(name)) => message.error = name.as_str().to_owned(),
            _ => {}
        }
    }
    Ok(message)
}

impl Message {
    /// What it carries.
    pub(super) fn body<'a, T: Deserialize<'a> + Type>(&'a self) -> Result<T> {
        self.body.deserialize().map(|(body, _)| body).map_err(|error| malformed("read an answer of systemd", &error))
    }

    fn refusal(&self) -> Refusal {
        Refusal { name: self.error.clone(), message: self.body().unwrap_or_default() }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.message.is_empty() {
            return f.write_str(&self.name);
        }
        write!(f, "{} ({})", self.message.trim_end_matches('.'), self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_there_and_back() {
        let method = Method { destination: "a.b", path: "/a/b", interface: "a.c", member: "Do" };
        let bytes = encode(&method, &("x", 7_u32, vec![("k", Variant::from(true))]), 0, 9).expect("encode");
        assert!(bytes.windows(9).any(|part| part == b"\x07sua(sv)\0"), "no parentheses: {bytes:?}");
        assert_eq!(length(&bytes).expect("length"), Some(bytes.len()));
        assert_eq!(length(&bytes[..15]).expect("length"), None);
        let message = decode(bytes).expect("decode");
        assert_eq!((message.kind, message.member.as_str()), (METHOD_CALL, "Do"));
        let (text, number, list): (String, u32, Vec<(String, Variant<'_>)>) = message.body().expect("body");
        assert_eq!((text.as_str(), number), ("x", 7));
        assert_eq!(list, [("k".to_owned(), Variant::from(true))]);
        assert!(message.body::<u64>().is_err() || message.body::<Vec<String>>().is_err());
    }

    #[test]
    fn hostile_bytes_are_refused() {
        assert!(length(&[0xff; 16]).is_err());
        assert!(length(b"HTTP/1.1 400 Bad").is_err());
        let method = Method { destination: "a.b", path: "/a/b", interface: "a.c", member: "Do" };
        let bytes = encode(&method, &"text", 0, 9).expect("encode");
        for place in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = bytes.clone();
                bytes[place] = value;
                // whatever it says: an error or a message, no panic
                if let Ok(Some(_)) = length(&bytes)
                    && let Ok(message) = decode(bytes)
                {
                    let _ = message.body::<String>();
                }
            }
        }
    }
}
