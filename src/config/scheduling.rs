//! `/process/scheduler`, `/process/ioPriority` and `/process/execCPUAffinity`.

use oci_spec::runtime::{
    ExecCPUAffinity, IOPriorityClass, LinuxIOPriority, LinuxSchedulerFlag, LinuxSchedulerPolicy,
    Scheduler as SpecScheduler,
};

use super::at::At;
use super::{Cpus, ExecAffinity, IoPriority, Scheduler};
use crate::error::Result;

/// The least runtime that the kernel's deadline scheduler can represent, in nanoseconds.
const MIN_RUNTIME: u64 = 1024;

pub(super) fn scheduler(scheduler: Option<&SpecScheduler>, at: &At) -> Result<Option<Scheduler>> {
    use LinuxSchedulerPolicy as Policy;
    let Some(spec) = scheduler else { return Ok(None) };
    let nice = spec.nice().unwrap_or_default();
    if !(-20..=19).contains(&nice) {
        return Err(at.key("nice").must("from -20 to 19", nice));
    }
    let priority = spec.priority().unwrap_or_default();
    match spec.policy() {
        Policy::SchedIso => {
            return Err(at.key("policy").error("scheduler.policy SCHED_ISO is reserved, Linux has no such policy"));
        }
        Policy::SchedFifo | Policy::SchedRr if !(1..=99).contains(&priority) => {
            return Err(at.key("priority").must("from 1 to 99 for SCHED_FIFO and SCHED_RR", priority));
        }
        Policy::SchedFifo | Policy::SchedRr => {}
        _ if priority != 0 => {
            return Err(at.key("priority").must("given for SCHED_FIFO and SCHED_RR only", priority));
        }
        _ => {}
    }
    let [runtime, deadline, period] = deadline(spec, at)?;
    Ok(Some(Scheduler {
        policy: policy(*spec.policy()),
        flags: spec.flags().iter().flatten().fold(0, |flags, flag| flags | self::flag(*flag)),
        nice,
        priority: u32::try_from(priority).unwrap_or_default(),
        runtime,
        deadline,
        period,
    }))
}

/// Runtime, deadline, period: what the kernel would refuse with a bare EINVAL is refused here with words.
fn deadline(spec: &SpecScheduler, at: &At) -> Result<[u64; 3]> {
    let times = [("runtime", *spec.runtime()), ("deadline", *spec.deadline()), ("period", *spec.period())];
    let [runtime, deadline, period] = times.map(|(_, time)| time.unwrap_or_default());
    if *spec.policy() != LinuxSchedulerPolicy::SchedDeadline {
        return match times.into_iter().find(|(_, time)| time.is_some_and(|time| time != 0)) {
            Some((key, time)) => Err(at.key(key).must("given for SCHED_DEADLINE only", time.unwrap_or_default())),
            None => Ok([0; 3]),
        };
    }
    if runtime < MIN_RUNTIME {
        return Err(at.key("runtime").must("at least 1024 (ns) for SCHED_DEADLINE", runtime));
    }
    if deadline < runtime {
        return Err(at.key("deadline").must(&format!("at least the runtime {runtime}"), deadline));
    }
    if period != 0 && period < deadline {
        return Err(at.key("period").must(&format!("0 or at least the deadline {deadline}"), period));
    }
    Ok([runtime, deadline, period])
}

/// sched(7): the numbers are the kernel's ABI.
fn policy(policy: LinuxSchedulerPolicy) -> u32 {
    use LinuxSchedulerPolicy as Policy;
    match policy {
        Policy::SchedOther => 0,
        Policy::SchedFifo => 1,
        Policy::SchedRr => 2,
        Policy::SchedBatch => 3,
        Policy::SchedIso => 4,
        Policy::SchedIdle => 5,
        Policy::SchedDeadline => 6,
    }
}

/// SCHED_FLAG_*.
fn flag(flag: LinuxSchedulerFlag) -> u64 {
    use LinuxSchedulerFlag as Flag;
    match flag {
        Flag::SchedResetOnFork => 0x01,
        Flag::SchedFlagReclaim => 0x02,
        Flag::SchedFlagDLOverrun => 0x04,
        Flag::SchedFlagKeepPolicy => 0x08,
        Flag::SchedFlagKeepParams => 0x10,
        Flag::SchedFlagUtilClampMin => 0x20,
        Flag::SchedFlagUtilClampMax => 0x40,
    }
}

pub(super) fn io_priority(priority: Option<&LinuxIOPriority>, at: &At) -> Result<Option<IoPriority>> {
    let Some(spec) = priority else { return Ok(None) };
    let class = match spec.class() {
        IOPriorityClass::IoprioClassRt => 1,
        IOPriorityClass::IoprioClassBe => 2,
        IOPriorityClass::IoprioClassIdle => 3,
    };
    match u16::try_from(spec.priority()) {
        Ok(priority) if priority <= 7 => Ok(Some(IoPriority { class, priority })),
        _ => Err(at.key("priority").must("from 0 to 7", spec.priority())),
    }
}

/// No kernel is built for more CPUs.
const CPUS: u32 = 8192;

pub(super) fn exec_affinity(affinity: Option<&ExecCPUAffinity>, at: &At) -> Result<ExecAffinity> {
    let Some(affinity) = affinity else { return Ok(ExecAffinity::default()) };
    let cpus = |list: &Option<String>, key: &str| list.as_deref().map(|list| cpus(list, &at.key(key))).transpose();
    Ok(ExecAffinity {
        initial: cpus(affinity.initial(), "initial")?,
        last: cpus(affinity.cpu_affinity_final(), "final")?,
    })
}

/// `0-3,7`.
fn cpus(list: &str, at: &At) -> Result<Cpus> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) if first <= last && last < CPUS => Some((first, last)),
            _ => None,
        }
    };
    let wrong = || at.must("a list of CPUs from 0 to 8191 such as 0-3,7", list);
    // whoever names each CPU once needs no more ranges, and each costs as much as the CPUs in it
    if list.split(',').count() > CPUS as usize {
        return Err(wrong());
    }
    list.split(',').map(|one| range(one).ok_or_else(wrong)).collect::<Result<_>>().map(Cpus)
}
