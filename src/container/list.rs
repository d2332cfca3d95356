//! `state` and `list`: what is, without changing it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use crate::error::Result;
use crate::state::record::{Phase, Record, Status};
use crate::state::store::{Entry, Store};

/// One container as `state` and `list` show it, in runc's order.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    pub oci_version: String,
    pub id: String,
    /// 0 when it is stopped.
    pub pid: i32,
    pub status: Status,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// A user's name.
    pub owner: String,
}

/// The state of one container.
///
/// # Errors
/// `does not exist`; a damaged record.
pub fn state(store: &Store, id: &str) -> Result<Row> {
    let entry = store.enter(id)?;
    row(&entry, entry.load_created()?)
}

/// All containers by id. One that cannot be read is a warning, not a failure.
pub fn list(store: &Store) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for id in store.ids()? {
        // deleted meanwhile, or claimed and nothing more
        let Ok(entry) = store.enter(&id) else { continue };
        match entry.load() {
            Ok(None) => {}
            Ok(Some(record)) => rows.push(row(&entry, record)?),
            Err(error) => tracing::warn!("{error}"),
        }
    }
    Ok(rows)
}

fn row(entry: &Entry, record: Record) -> Result<Row> {
    let status = entry.status(&record)?;
    Ok(Row {
        pid: if status == Status::Stopped || record.phase == Phase::Creating { 0 } else { record.pid() },
        oci_version: record.oci_version,
        id: record.id,
        status,
        bundle: record.bundle,
        rootfs: record.rootfs,
        created: record.created,
        annotations: record.annotations,
        owner: user_name(record.owner),
    })
}

/// The name of `uid` by /etc/passwd: no name service of the host is asked.
fn user_name(uid: u32) -> String {
    if uid == 0 {
        return "root".to_owned();
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    };
    passwd.lines().find_map(find).unwrap_or_else(|| format!("#{uid}"))
}
