//! What systemd is asked: org.freedesktop.systemd1(5).

use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;
use zbus::{OwnedObjectPath, Type, Variant};

use crate::error::{Context, Error, Result};
use crate::plan::cgroupfs::Unit;

use super::bus::{Connection, Message, Method, Refusal};
use super::unit::{PROGRAM, Property, Value};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// systemd is about to come back (`daemon-reexec`): what was asked may have been done or not.
const AWAY: [&str; 4] = [
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.Disconnected",
];

const DENIED: [&str; 3] = [
    "org.freedesktop.DBus.Error.AccessDenied",
    "org.freedesktop.DBus.Error.AuthFailed",
    "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired",
];

/// How a property that systemd does not know, or a value that it does not, is refused. The message names it.
const UNKNOWN: [&str; 2] = ["org.freedesktop.DBus.Error.PropertyReadOnly", "org.freedesktop.DBus.Error.InvalidArgs"];

/// How often a signal that may have been lost is asked for.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long a process of a creator that died may take to see it.
const ORPHANS: Duration = Duration::from_secs(2);

const PAUSE: Duration = Duration::from_millis(50);

/// How often a unit that is being forgotten is asked to make room.
const ROUNDS: u32 = 40;

/// As in systemd: a(sv), and no other units beside.
type Properties<'a> = Vec<(&'a str, Variant<'a>)>;
type Auxiliary<'a> = Vec<(&'a str, Properties<'a>)>;

/// A scope, and the connection on which systemd is asked about it.
pub struct Scope<'a> {
    unit: &'a Unit,
    connection: Connection,
}

/// Puts process `pid` into the scope, in the cgroup `below` of it.
pub(in crate::cgroup) fn attach(unit: &Unit, below: &Path, pid: i32) -> Result<()> {
    Scope::open(unit).and_then(|mut scope| scope.attach(below, pid)).context(|| format!("enter scope {}", unit.name))
}

/// Changes properties of the scope.
pub(in crate::cgroup) fn set(unit: &Unit, properties: &[Property]) -> Result<()> {
    Scope::open(unit).and_then(|mut scope| scope.set(properties)).context(|| format!("change scope {}", unit.name))
}

/// Ends the scope, and with it its cgroups. One that is gone is fine.
pub(in crate::cgroup) fn stop(unit: &Unit) -> Result<()> {
    Scope::open(unit).and_then(|mut scope| scope.stop()).context(|| format!("stop scope {}", unit.name))
}

/// Ends the scope if no process is in it: it may be somebody else's, and is left alone then (false).
pub(in crate::cgroup) fn stop_unused(unit: &Unit) -> Result<bool> {
    Scope::open(unit).and_then(|mut scope| scope.stop_unused()).context(|| format!("stop scope {}", unit.name))
}

fn manager(member: &str) -> Method<'_> {
    Method { destination: SYSTEMD, path: "/org/freedesktop/systemd1", interface: MANAGER, member }
}

fn get(path: &str) -> Method<'_> {
    Method { destination: SYSTEMD, path, interface: "org.freedesktop.DBus.Properties", member: "Get" }
}

fn refused(refusal: &Refusal) -> Error {
    let error = Error::new(format!("systemd refuses: {refusal}"));
    if DENIED.contains(&refusal.name.as_str()) {
        return error.hint("only root may make scopes on the system's bus; a user's own are on the user's bus");
    }
    error
}

impl<'a> Scope<'a> {
    /// Nothing is asked yet.
    fn open(unit: &'a Unit) -> Result<Self> {
        let mut connection = Connection::open(unit.bus)?;
        // the jobs of this unit only: with many containers each would wake all
        connection.subscribe(&format!(
            "type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved',arg2='{}'",
            unit.name
        ))?;
        Ok(Self { unit, connection })
    }

    /// For [`Self::make`].
    ///
    /// # Errors
    /// There is no bus.
    pub(in crate::cgroup) fn reach(unit: &'a Unit) -> Result<Self> {
        Self::open(unit).context(|| format!("start scope {}", unit.name)).at(|| "/linux/cgroupsPath".to_owned())
    }

    /// Makes the scope with process `pid` in it. One that exists and is empty is replaced. `pin` makes the program
    /// for its devices: not before the name is known to be free.
    pub(in crate::cgroup) fn make(
        mut self,
        properties: &[Property],
        pid: i32,
        pin: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.start(properties, pid, pin)
            .context(|| format!("start scope {}", self.unit.name))
            .at(|| "/linux/cgroupsPath".to_owned())
    }

    fn start(&mut self, properties: &[Property], pid: i32, pin: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut properties: Vec<&Property> = properties.iter().collect();
        if self.unit.program.is_some() {
            self.make_room(1)?;
            if let Err(error) = pin() {
                // the rules are attached by us all the same
                tracing::debug!("systemd is not told of the device program: {error}");
                properties.retain(|property| property.name != PROGRAM);
            }
        }
        let pids = Property::new("PIDs", Value::Pids(vec![pid.unsigned_abs()]));
        let mut rounds = 0;
        loop {
            let all: Properties<'_> = properties.iter().copied().chain([&pids]).map(pair).collect();
            let body = (self.unit.name.as_str(), "fail", all, Auxiliary::new());
            match self.connection.call(&manager("StartTransientUnit"), &body)? {
                Ok(answer) => return self.finish(&answer, "start", "active"),
                Err(refusal) if refusal.name == UNIT_EXISTS => {
                    if self.holds(pid)? {
                        return Ok(());
                    }
                    rounds += 1;
                    self.make_room(rounds)?;
                }
                Err(refusal) => self.bear(refusal, &mut properties)?,
            }
        }
    }

    fn attach(&mut self, below: &Path, pid: i32) -> Result<()> {
        let below = if below.as_os_str().is_empty() { String::new() } else { format!("/{}", below.display()) };
        let body = (self.unit.name.as_str(), below.as_str(), vec![pid.unsigned_abs()]);
        self.ask(&manager("AttachProcessesToUnit"), &body)?.map(drop).map_err(|refusal| refused(&refusal))
    }

    fn set(&mut self, properties: &[Property]) -> Result<()> {
        let mut properties: Vec<&Property> = properties.iter().collect();
        while !properties.is_empty() {
            let body =
                (self.unit.name.as_str(), true, properties.iter().copied().map(pair).collect::<Properties<'_>>());
            match self.ask(&manager("SetUnitProperties"), &body)? {
                Ok(_) => return Ok(()),
                Err(refusal) => self.bear(refusal, &mut properties)?,
            }
        }
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        match self.ask(&manager("StopUnit"), &(self.unit.name.as_str(), "replace"))? {
            Ok(answer) => {
                self.finish(&answer, "stop", "inactive")?;
                self.reset()
            }
            Err(refusal) if refusal.name == NO_SUCH_UNIT => Ok(()),
            Err(refusal) => Err(refused(&refusal)),
        }
    }

    fn stop_unused(&mut self) -> Result<bool> {
        let end = Instant::now() + ORPHANS;
        loop {
            match self.processes()? {
                None => return Ok(true),
                Some(0) => return self.stop().map(|()| true),
                Some(_) if Instant::now() < end => std::thread::sleep(PAUSE),
                Some(count) => {
                    tracing::warn!("{} is left alone: {count} process(es) that are not ours are in it", self.unit.name);
                    return Ok(false);
                }
            }
        }
    }

    /// Has systemd forget a failure, so that it forgets the unit.
    fn reset(&mut self) -> Result<()> {
        // there is nothing to forget, mostly
        self.ask(&manager("ResetFailedUnit"), &self.unit.name.as_str()).map(drop)
    }

    /// A call that may be made twice: it is, when systemd was away.
    fn ask<B: Serialize + Type>(&mut self, method: &Method<'_>, body: &B) -> Result<Result<Message, Refusal>> {
        loop {
            match self.connection.call(method, body)? {
                Err(refusal) if self.is_away(&refusal) => {}
                answer => return Ok(answer),
            }
        }
    }

    /// Whether systemd may be back by now.
    fn is_away(&self, refusal: &Refusal) -> bool {
        let away = AWAY.contains(&refusal.name.as_str()) && Instant::now() + PAUSE < self.connection.deadline();
        if away {
            std::thread::sleep(PAUSE);
        }
        away
    }

    /// What can be done about a refusal: to wait for a systemd that is away, to leave out a property that it does
    /// not know and that a file of the cgroup makes good for.
    fn bear(&self, refusal: Refusal, properties: &mut Vec<&Property>) -> Result<()> {
        if self.is_away(&refusal) {
            return Ok(());
        }
        if UNKNOWN.contains(&refusal.name.as_str())
            && let Some(place) = properties.iter().position(|property| says(&refusal.message, &property.name))
        {
            let property = properties[place];
            if property.optional {
                tracing::debug!("systemd does not take {}: {refusal}", property.name);
                properties.remove(place);
                return Ok(());
            }
            let error = refused(&refusal);
            return Err(match &property.pointer {
                Some(pointer) => error.at(pointer),
                None => error,
            });
        }
        Err(refused(&refusal))
    }

    /// A unit of this name exists. One without processes is a leftover.
    fn make_room(&mut self, round: u32) -> Result<()> {
        match self.processes()? {
            None => {}
            Some(0) if round > ROUNDS => {
                return Err(Error::new("systemd does not forget a unit of this name")
                    .hint(format!("systemctl status {}", self.unit.name)));
            }
            Some(0) => self.stop()?,
            Some(count) => {
                return Err(Error::new(format!("a unit of this name exists, with {count} process(es) in it"))
                    .hint(format!("another container uses this cgroupsPath: systemctl status {}", self.unit.name)));
            }
        }
        // it is forgotten when systemd has nothing else to do
        if round > 1 {
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// How many processes are in the unit and below; None: there is no such unit.
    fn processes(&mut self) -> Result<Option<usize>> {
        match self.ask(&manager("GetUnitProcesses"), &self.unit.name.as_str())? {
            Ok(answer) => Ok(Some(answer.body::<Vec<(String, u32, String)>>()?.len())),
            Err(refusal) if refusal.name == NO_SUCH_UNIT => Ok(None),
            Err(refusal) => Err(refused(&refusal)),
        }
    }

    /// Whether the process is in the unit: an answer that was lost may have been yes.
    fn holds(&mut self, pid: i32) -> Result<bool> {
        let unit = self.path()?;
        let holder = self.ask(&manager("GetUnitByPID"), &pid.unsigned_abs())?;
        Ok(match (unit, holder) {
            (Some(unit), Ok(holder)) => holder.body::<OwnedObjectPath>()? == unit,
            _ => false,
        })
    }

    /// The unit's object.
    fn path(&mut self) -> Result<Option<OwnedObjectPath>> {
        match self.ask(&manager("GetUnit"), &self.unit.name.as_str())? {
            Ok(answer) => answer.body().map(Some),
            Err(refusal) if refusal.name == NO_SUCH_UNIT => Ok(None),
            Err(refusal) => Err(refused(&refusal)),
        }
    }

    /// Waits for the job that systemd answered with; `state` is what the unit is in when it went well.
    fn finish(&mut self, answer: &Message, verb: &str, state: &str) -> Result<()> {
        let job: OwnedObjectPath = answer.body()?;
        let result = self.result(&job, verb, state)?;
        if result == "done" {
            return Ok(());
        }
        self.reset()?;
        Err(Error::new(format!("systemd's job to {verb} it ended with {result:?}"))
            .hint(format!("journalctl -u {}", self.unit.name)))
    }

    fn result(&mut self, job: &OwnedObjectPath, verb: &str, state: &str) -> Result<String> {
        let what = format!("the end of the job to {verb}");
        loop {
            while let Some(signal) = self.connection.signal(&what, Instant::now() + ASK_AGAIN)? {
                if signal.member == "JobRemoved" {
                    let (_, removed, _, result): (u32, OwnedObjectPath, String, String) = signal.body()?;
                    if removed == *job {
                        return Ok(result);
                    }
                }
            }
            // a systemd that was started anew says nothing of jobs that ended meanwhile
            let gone = self.ask(&get(job.as_str()), &("org.freedesktop.systemd1.Job", "State"))?.is_err();
            if gone && !self.connection.has_signal() {
                let now = self.state()?;
                match now.as_str() {
                    "activating" | "deactivating" | "reloading" => {}
                    now if now == state || (state == "inactive" && now == "failed") => return Ok("done".to_owned()),
                    _ => return Ok(format!("lost, and the unit is {now}")),
                }
            }
        }
    }

    /// `active`, `failed`, …; a unit that is not there is inactive.
    fn state(&mut self) -> Result<String> {
        let Some(path) = self.path()? else { return Ok("inactive".to_owned()) };
        let body = ("org.freedesktop.systemd1.Unit", "ActiveState");
        match self.ask(&get(path.as_str()), &body)? {
            Ok(answer) => match answer.body::<Variant<'_>>()? {
                Variant::Str(state) => Ok(state.as_str().to_owned()),
                _ => Err(Error::new("systemd says nothing of the state of the unit")),
            },
            Err(_) => Ok("inactive".to_owned()),
        }
    }
}

/// `name` as a whole word of `message`: `CPUQuota` is not in one about `CPUQuotaPeriodUSec`.
fn says(message: &str, name: &str) -> bool {
    message.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == name)
}

fn pair(property: &Property) -> (&str, Variant<'_>) {
    let value = match &property.value {
        Value::Bool(value) => Variant::from(*value),
        Value::I32(value) => Variant::from(*value),
        Value::U64(value) => Variant::from(*value),
        Value::Text(value) => Variant::from(value.as_str()),
        Value::Texts(value) => Variant::from(value.iter().map(String::as_str).collect::<Vec<_>>()),
        Value::Mask(value) => Variant::from(value.clone()),
        Value::Rates(value) => Variant::from(value.iter().map(|(d, r)| (d.as_str(), *r)).collect::<Vec<_>>()),
        Value::Pairs(value) => Variant::from(value.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>()),
        Value::Pids(value) => Variant::from(value.clone()),
    };
    (&property.name, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_types_of_systemds_bus() {
        let signature = |value| pair(&Property::new("X", value)).1.value_signature().to_string();
        assert_eq!(signature(Value::Bool(true)), "b");
        assert_eq!(signature(Value::I32(1)), "i");
        assert_eq!(signature(Value::U64(1)), "t");
        assert_eq!(signature(Value::Text("a".to_owned())), "s");
        assert_eq!(signature(Value::Texts(Vec::new())), "as");
        assert_eq!(signature(Value::Mask(vec![1])), "ay");
        assert_eq!(signature(Value::Rates(Vec::new())), "a(st)");
        assert_eq!(signature(Value::Pairs(Vec::new())), "a(ss)");
        assert_eq!(signature(Value::Pids(vec![1])), "au");
    }

    #[test]
    fn the_property_that_is_refused() {
        assert!(says("Cannot set property MemoryZSwapMax, or unknown property.", "MemoryZSwapMax"));
        assert!(says("Value specified in CPUWeight is out of range", "CPUWeight"));
        assert!(!says("Cannot set property CPUQuotaPeriodUSec, or unknown property.", "CPUQuota"));
    }
}
