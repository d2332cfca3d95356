//! A plan as text: one line for each thing done, in order.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::config::IdMapping;

use super::Plan;
use super::step::WriteMaps;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "warning  {warning}")?;
        }
        for directory in self.placement.directories() {
            writeln!(f, "parent   make-cgroup {}", directory.display())?;
        }
        for setting in &self.limits.settings {
            writeln!(f, "parent   limit {}", line(setting, ""))?;
        }
        if let Some(rules) = &self.limits.devices {
            writeln!(
                f,
                "parent   device-rules {}",
                rules.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            )?;
        }
        if let Some(uid) = self.cgroup_owner {
            writeln!(f, "parent   cgroup-owner uid={uid} (/process/user/uid)")?;
        }
        for property in &self.properties {
            writeln!(f, "parent   unit-property {}", line(property, ""))?;
        }
        for (id, asset) in self.assets.iter().enumerate() {
            writeln!(f, "parent   open {id}: {}", line(asset, "asset"))?;
        }
        writeln!(f, "parent   clone3 {}", line(&self.spawn, ""))?;
        if let Some(WriteMaps { maps, how }) = &self.id_maps {
            let list = |list: &[IdMapping]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            writeln!(
                f,
                "parent   id-maps uids: {}; gids: {}; {how:?} (/linux/uidMappings)",
                list(&maps.uids),
                list(&maps.gids)
            )?;
        }
        for tune in &self.after_clone {
            writeln!(f, "parent   {}", line(tune, "tune"))?;
        }
        for entry in &self.steps {
            writeln!(f, "init     {}", line(entry, "step"))?;
        }
        for tune in &self.at_ready {
            writeln!(f, "parent   {}", line(tune, "tune"))?;
        }
        if let Some(label) = &self.socket_label {
            writeln!(f, "start    notify-socket label={label} (/process/selinuxLabel)")?;
        }
        Ok(())
    }
}

/// `name key=value … (pointer)`.
fn line(item: &impl Serialize, name_key: &str) -> String {
    let Ok(Value::Object(mut fields)) = serde_json::to_value(item) else {
        return String::new();
    };
    let mut line = match fields.remove(name_key) {
        Some(Value::String(name)) => name,
        _ => String::new(),
    };
    let pointer = fields.remove("pointer");
    for (key, value) in fields {
        let value = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        line += &format!(" {key}={value}");
    }
    if let Some(Value::String(pointer)) = pointer {
        line += &format!(" ({pointer})");
    }
    line.trim_start().to_owned()
}
