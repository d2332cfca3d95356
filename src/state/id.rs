//! Container ids: a file name, as runc allows it.

use crate::error::{Error, Result};

const MAX_LENGTH: usize = 1024;

/// Refuses what is no id: empty, too long, `.` or `..`, or with other characters than letters, digits and `_+-.`.
pub fn check(id: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    let wrong = if id.is_empty() {
        "container id cannot be empty".to_owned()
    } else if id.len() > MAX_LENGTH {
        format!("container id is too long: {} characters, at most {MAX_LENGTH} are allowed", id.len())
    } else if id == "." || id == ".." || !id.chars().all(allowed) {
        format!("invalid container ID format: {id:?}: letters, digits and _+-. are allowed")
    } else {
        return Ok(());
    };
    Err(Error::new(wrong))
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn only_plain_file_names() {
        for good in ["a", "web-1", "A_b+c.d", &"x".repeat(1024)] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a b", "a\nb", "é", &"x".repeat(1025)] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
