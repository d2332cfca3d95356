//! `update`.

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Parser;
use serde_json::{Map, Value};

use crate::config::load::LIMIT;
use crate::config::resources::Resources;
use crate::container::update;
use crate::error::{Call, Context, Error, Result};

use super::Options;
use super::numbers::{bytes, signed, unsigned};

/// Change the limits of a container; what is not given stays.
#[derive(Debug, Parser)]
#[command(name = "update")]
pub(super) struct Arguments {
    /// File with the properties of config.json's /linux/resources to change, or - for stdin; the other options
    /// are ignored then
    #[arg(long, short, value_name = "FILE")]
    resources: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
    /// The container's name
    id: String,
}

/// One for each limit: runc-update(8).
#[derive(Debug, clap::Args)]
struct Flags {
    /// Share of block I/O, from 10 to 1000
    #[arg(long, value_name = "WEIGHT", allow_hyphen_values = true)]
    blkio_weight: Option<String>,
    /// Length of a period of the CPU limit, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_period: Option<String>,
    /// CPU time in each period, in microseconds; -1 is no limit
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<String>,
    /// CPU time that may be saved up for later periods, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_burst: Option<String>,
    /// Share of CPU time
    #[arg(long, value_name = "SHARES", allow_hyphen_values = true)]
    cpu_share: Option<String>,
    /// Length of a period of the real-time limit, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_rt_period: Option<String>,
    /// Real-time CPU time in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_rt_runtime: Option<String>,
    /// CPUs to use: 0-3,7
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST", allow_hyphen_values = true)]
    cpuset_mems: Option<String>,
    /// 1: run only when nobody else wants to
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    cpu_idle: Option<String>,
    /// Memory, in bytes or with a unit (100M, 1.5g); -1 is no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory: Option<String>,
    /// Memory that is not reclaimed while others have more to give
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_reservation: Option<String>,
    /// Memory and swap together; -1 is no limit
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    memory_swap: Option<String>,
    #[arg(long, hide = true, allow_hyphen_values = true)]
    kernel_memory: Option<String>,
    #[arg(long, hide = true, allow_hyphen_values = true)]
    kernel_memory_tcp: Option<String>,
    /// Tasks; -1 is no limit
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<String>,
    /// Not supported yet
    #[arg(long, value_name = "SCHEMA", allow_hyphen_values = true)]
    l3_cache_schema: Option<String>,
    /// Not supported yet
    #[arg(long, value_name = "SCHEMA", allow_hyphen_values = true)]
    mem_bw_schema: Option<String>,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    let id = &arguments.id;
    let asked = || {
        let document = match &arguments.resources {
            Some(file) => read(file)?,
            None => document(&arguments.flags)?,
        };
        // its pointers count from the root of what was given, which is no config.json
        Resources::parse(&document).map_err(|error| error.of("the resources"))
    };
    let resources = asked().context(|| super::bundle::name("update", id))?;
    update::update(&options.store(), id, &resources).map_err(|error| error.of("the resources"))?;
    Ok(0)
}

fn read(file: &Path) -> Result<Vec<u8>> {
    use rustix::fs::{Mode, OFlags, open};
    let source = || -> Result<Box<dyn Read>> {
        if file == Path::new("-") {
            return Ok(Box::new(std::io::stdin()));
        }
        let fd =
            open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).call(|| format!("open {}", file.display()))?;
        Ok(Box::new(std::fs::File::from(fd)))
    };
    let mut bytes = Vec::new();
    // one byte more than is allowed shows that there is more
    let limit = LIMIT as u64 + 1;
    let length = source()
        .and_then(|source| source.take(limit).read_to_end(&mut bytes).call(|| format!("read {}", file.display())))
        .context(|| "read the resources".to_owned())?;
    if length > LIMIT {
        return Err(Error::new(format!("the resources are larger than {} MiB", LIMIT >> 20)));
    }
    Ok(bytes)
}

/// The flags as the document that `--resources` would be.
fn document(flags: &Flags) -> Result<Vec<u8>> {
    if flags.l3_cache_schema.is_some() {
        return Err(Error::new("Intel RDT/CAT: l3 cache schema is not enabled").hint("not supported yet"));
    }
    if flags.mem_bw_schema.is_some() {
        return Err(Error::new("Intel RDT/MBA: memory bandwidth schema is not enabled").hint("not supported yet"));
    }
    for (name, flag) in [("kernel-memory", &flags.kernel_memory), ("kernel-memory-tcp", &flags.kernel_memory_tcp)] {
        if flag.is_some() {
            tracing::warn!("--{name} is ignored: kernel memory has no limit of its own");
        }
    }
    let text = |text: &str| Ok(Value::from(text));
    let mut document = Map::new();
    let mut set = |group: &str, key: &str, name: &str, flag: &Option<String>, parse: &dyn Fn(&str) -> Result<Value>| {
        // runc takes an empty value for none
        let Some(given) = flag.as_deref().filter(|given| !given.is_empty()) else { return Ok(()) };
        let value = parse(given).context(|| format!("invalid value for {name}"))?;
        document.entry(group).or_insert_with(|| Map::new().into())[key] = value;
        Ok::<_, Error>(())
    };
    set("blockIO", "weight", "blkio-weight", &flags.blkio_weight, &unsigned)?;
    set("cpu", "period", "cpu-period", &flags.cpu_period, &unsigned)?;
    set("cpu", "quota", "cpu-quota", &flags.cpu_quota, &signed)?;
    set("cpu", "burst", "cpu-burst", &flags.cpu_burst, &unsigned)?;
    set("cpu", "shares", "cpu-share", &flags.cpu_share, &unsigned)?;
    set("cpu", "realtimePeriod", "cpu-rt-period", &flags.cpu_rt_period, &unsigned)?;
    set("cpu", "realtimeRuntime", "cpu-rt-runtime", &flags.cpu_rt_runtime, &signed)?;
    set("cpu", "cpus", "cpuset-cpus", &flags.cpuset_cpus, &text)?;
    set("cpu", "mems", "cpuset-mems", &flags.cpuset_mems, &text)?;
    set("cpu", "idle", "cpu-idle", &flags.cpu_idle, &signed)?;
    set("memory", "limit", "memory", &flags.memory, &bytes)?;
    set("memory", "reservation", "memory-reservation", &flags.memory_reservation, &bytes)?;
    set("memory", "swap", "memory-swap", &flags.memory_swap, &bytes)?;
    set("pids", "limit", "pids-limit", &flags.pids_limit, &signed)?;
    serde_json::to_vec(&document).map_err(|error| Error::new(error.to_string()))
}
