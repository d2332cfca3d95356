//! Small files in the bundle.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use ferrun::error::{Call, Result};

/// Writes a file that nobody ever sees half of, and nobody else at all: an environment may hold secrets.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let write = || {
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        std::fs::rename(&fresh, path)
    };
    write().call(|| format!("write {}", path.display())).inspect_err(|_| {
        let _ = std::fs::remove_file(&fresh); // a half, or none at all
    })
}
