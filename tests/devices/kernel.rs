//! A model of security/device_cgroup.c: one cgroup whose parent allows everything.

use super::Request;

#[derive(Debug, Default)]
pub(super) struct Kernel {
    /// Inverted, as a new one allows.
    deny: bool,
    exceptions: Vec<Exception>,
}

#[derive(Debug, Clone, PartialEq)]
struct Exception {
    block: bool,
    major: Option<u32>,
    minor: Option<u32>,
    access: u8,
}

impl Kernel {
    /// devcgroup_update_access: what is written to devices.allow or devices.deny.
    pub(super) fn write(&mut self, text: &str, allow: bool) -> Result<(), String> {
        let kind = text.chars().next().ok_or("EINVAL")?;
        if kind == 'a' {
            self.exceptions.clear();
            self.deny = !allow;
            return Ok(());
        }
        let words: Vec<&str> = text.split([' ', ':']).collect();
        let [kind, major, minor, letters] = words[..] else { return Err("EINVAL".to_owned()) };
        let number = |word: &str| match word {
            "*" => Ok(None),
            _ => word.parse().map(Some).map_err(|_| "EINVAL".to_owned()),
        };
        let access = letters.chars().fold(0, |bits, letter| {
            bits | match letter {
                'm' => 1,
                'r' => 2,
                'w' => 4,
                _ => panic!("{text}"),
            }
        });
        assert!(matches!(kind, "b" | "c") && access != 0 && letters.len() <= 3, "{text}");
        let exception = Exception { block: kind == "b", major: number(major)?, minor: number(minor)?, access };
        if allow == self.deny {
            self.add(exception)
        } else {
            self.remove(&exception)
        }
        Ok(())
    }

    /// dev_exception_add
    fn add(&mut self, new: Exception) {
        let same = |one: &&mut Exception| (one.block, one.major, one.minor) == (new.block, new.major, new.minor);
        match self.exceptions.iter_mut().find(same) {
            Some(one) => one.access |= new.access,
            None => self.exceptions.push(new),
        }
    }

    /// dev_exception_rm: only the very same, never a part of a wider one.
    fn remove(&mut self, old: &Exception) {
        for one in &mut self.exceptions {
            if (one.block, one.major, one.minor) == (old.block, old.major, old.minor) {
                one.access &= !old.access;
            }
        }
        self.exceptions.retain(|one| one.access != 0);
    }

    /// devcgroup_legacy_check_permission
    pub(super) fn allows(&self, request: Request) -> bool {
        let mut about = self.exceptions.iter().filter(|one| {
            one.block == request.block
                && one.major.is_none_or(|major| major == request.major)
                && one.minor.is_none_or(|minor| minor == request.minor)
        });
        if self.deny {
            about.any(|one| request.access & !one.access == 0)
        } else {
            !about.any(|one| request.access & one.access != 0)
        }
    }

    /// devices.list
    pub(super) fn list(&self) -> String {
        if !self.deny {
            return "a *:* rwm\n".to_owned();
        }
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let line = |one: &Exception| {
            let letters: String = [(2, 'r'), (4, 'w'), (1, 'm')]
                .iter()
                .filter(|(bit, _)| one.access & bit != 0)
                .map(|(_, c)| c)
                .collect();
            let kind = if one.block { 'b' } else { 'c' };
            format!("{kind} {}:{} {letters}\n", number(one.major), number(one.minor))
        };
        self.exceptions.iter().map(line).collect()
    }
}
