//! What the parent does for the child, by its pid.

use crate::error::{Call, Context, Result};
use crate::init::identity;
use crate::plan::step::{Tune, TuneEntry};
use crate::sys::sched::{SchedAttr, ioprio_set, sched_setattr};

pub(super) fn all(tunes: &[TuneEntry], pid: i32) -> Result<()> {
    tunes.iter().try_for_each(|entry| tune(&entry.tune, pid).at(|| entry.pointer.clone()))
}

fn tune(tune: &Tune, pid: i32) -> Result<()> {
    match tune {
        Tune::OomScoreAdj(score) => identity::oom_score_adj(&pid.to_string(), *score),
        Tune::Scheduler(scheduler) => {
            let attr = SchedAttr {
                policy: scheduler.policy,
                flags: scheduler.flags,
                nice: scheduler.nice,
                priority: scheduler.priority,
                runtime: scheduler.runtime,
                deadline: scheduler.deadline,
                period: scheduler.period,
                ..SchedAttr::default()
            };
            sched_setattr(pid, attr).call(|| "sched_setattr".to_owned()).context(|| "set the scheduler".to_owned())
        }
        Tune::IoPriority(priority) => ioprio_set(pid, priority.class, priority.priority)
            .call(|| "ioprio_set".to_owned())
            .context(|| "set the I/O priority".to_owned()),
    }
}
