//! The two containers: *min* (what `runc spec` writes) and *full* (what Docker's defaults generate).

/// The v1 hierarchies (directory names below /sys/fs/cgroup) that the floor joins when it is not told others.
pub const HIERARCHIES: [&str; 9] =
    ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "systemd"];

/// /proc/acpi … /proc/scsi: `runc spec`'s ten; Docker adds the last two.
pub const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/sys/firmware",
    "/proc/scsi",
    "/proc/interrupts",
    "/sys/devices/virtual/powercap",
];
/// How many of `MASKED` the minimal bundle has.
pub const MASKED_MIN: usize = 10;

pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Files that Docker binds from the host's side of the container into its /etc.
pub const BOUND_FILES: [&str; 3] = ["resolv.conf", "hostname", "hosts"];

pub type Capability = (&'static str, u32);
pub const CAPS_MIN: &[Capability] = &[("CAP_AUDIT_WRITE", 29), ("CAP_KILL", 5), ("CAP_NET_BIND_SERVICE", 10)];
pub const CAPS_FULL: &[Capability] = &[
    ("CAP_CHOWN", 0),
    ("CAP_DAC_OVERRIDE", 1),
    ("CAP_FSETID", 4),
    ("CAP_FOWNER", 3),
    ("CAP_MKNOD", 27),
    ("CAP_NET_RAW", 13),
    ("CAP_SETGID", 6),
    ("CAP_SETUID", 7),
    ("CAP_SETFCAP", 31),
    ("CAP_SETPCAP", 8),
    ("CAP_NET_BIND_SERVICE", 10),
    ("CAP_SYS_CHROOT", 18),
    ("CAP_KILL", 5),
    ("CAP_AUDIT_WRITE", 29),
];

pub const NOFILE_MIN: u64 = 1024;
pub const GIDS_FULL: [u32; 2] = [10, 27];
/// Above zero, so that it is allowed wherever the bench itself inherited less than this.
pub const OOM_SCORE_ADJ_FULL: i32 = 100;
pub const HOSTNAME: &str = "bench";

// Limits of the full bundle (not with `--no-limits`).
pub const MEMORY_LIMIT: u64 = 256 << 20;
pub const CPU_SHARES: u64 = 512;
/// What v2 has instead: 1 + (shares - 2) * 9999 / 262142, the older of two formulas in use.
pub const CPU_WEIGHT: u64 = 20;
pub const CPU_QUOTA: i64 = 50_000;
pub const CPU_PERIOD: u64 = 100_000;
pub const PIDS_LIMIT: i64 = 100;
/// Docker's device list: type, major, minor (None: any), access. The same rules are what every runtime adds by itself
/// to "deny all", so they hold for the minimal bundle too.
pub type DeviceRule = (char, Option<i64>, Option<i64>, &'static str);
pub const DEVICES: [DeviceRule; 10] = [
    ('c', None, None, "m"),
    ('b', None, None, "m"),
    ('c', Some(1), Some(3), "rwm"),
    ('c', Some(1), Some(5), "rwm"),
    ('c', Some(1), Some(7), "rwm"),
    ('c', Some(1), Some(8), "rwm"),
    ('c', Some(1), Some(9), "rwm"),
    ('c', Some(5), Some(0), "rwm"),
    ('c', Some(5), Some(2), "rwm"),
    ('c', Some(136), None, "rwm"),
];

// The conditional rules of the profile.
/// clone(2) is allowed when none of the namespace flags is set.
pub const CLONE_NAMESPACES: u32 = 0x7E02_0000;
pub const AF_VSOCK: u32 = 40;
pub const PERSONALITIES: [u32; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];
