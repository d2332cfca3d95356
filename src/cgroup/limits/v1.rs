//! The files of version 1.

use super::Setting;
use crate::config::resources::Resources;
use crate::error::Result;

pub(super) fn settings(_resources: &Resources) -> Result<Vec<Setting>> {
    Ok(Vec::new())
}
