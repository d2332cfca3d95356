//! Lists of rules by chance: few numbers, so that they meet.

use ferrun::config::resources::{Access, DeviceRule, RuleKind};

pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Below `end`: splitmix64.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn number(&mut self, wild: u64) -> Option<u32> {
        const NUMBERS: [u32; 6] = [1, 2, 3, 5, 8, 136];
        if self.below(wild) == 0 { None } else { Some(NUMBERS[self.below(6) as usize]) }
    }

    fn rule(&mut self) -> DeviceRule {
        let access = self.below(7) + 1;
        DeviceRule {
            allow: self.below(3) > 0,
            kind: match self.below(8) {
                0 => RuleKind::All,
                1..4 => RuleKind::Block,
                _ => RuleKind::Char,
            },
            major: self.number(5),
            minor: self.number(3),
            access: Access { read: access & 1 != 0, write: access & 2 != 0, mknod: access & 4 != 0 },
            pointer: Some("/x".to_owned()),
        }
    }

    pub(super) fn rules(&mut self, count: u64) -> Vec<DeviceRule> {
        let mut rules: Vec<DeviceRule> = (0..count).map(|_| self.rule()).collect();
        // whole lists often begin with what everything is
        if self.below(3) == 0 {
            let all = Access { read: true, write: true, mknod: true };
            let allow = self.below(2) == 0;
            rules.insert(
                0,
                DeviceRule { allow, kind: RuleKind::All, major: None, minor: None, access: all, pointer: None },
            );
        }
        rules
    }
}
