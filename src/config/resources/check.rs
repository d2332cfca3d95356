//! `LinuxResources` → [`Resources`].

use oci_spec::runtime::LinuxResources;

use super::Resources;
use crate::config::at::{At, ROOT};
use crate::error::Result;

impl Resources {
    /// From what `update` is given: a document with the properties of `/linux/resources`.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let spec: LinuxResources =
            serde_json::from_slice(bytes).map_err(|error| crate::error::Error::new(error.to_string()))?;
        check(Some(&spec), &ROOT, &mut Vec::new())
    }
}

pub(in crate::config) fn check(
    _spec: Option<&LinuxResources>,
    _at: &At,
    _warnings: &mut Vec<String>,
) -> Result<Resources> {
    Ok(Resources::default())
}
