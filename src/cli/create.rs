//! `create`.

use clap::Parser;

use crate::error::{Context, Result};
use crate::launch::create::{Order, create};
use crate::plan::Start;

use super::Options;
use super::bundle::{self, BundleOptions};

/// Create a container: its process waits for start.
#[derive(Debug, Parser)]
#[command(name = "create")]
pub(super) struct Arguments {
    #[command(flatten)]
    bundle: BundleOptions,
    /// Accepted for callers of runc; create always detaches
    #[arg(long, hide = true)]
    detach: bool,
    /// The container's name
    id: String,
}

pub(super) fn execute(arguments: Arguments, options: &Options) -> Result<i32> {
    let Arguments { bundle: asked, id, .. } = arguments;
    let create = || {
        let bundle = bundle::read(&id, &asked, options, Start::Later, false)?;
        bundle::warn(&bundle.plan);
        create(&Order {
            store: &options.store(),
            config: &bundle.config,
            plan: &bundle.plan,
            request: &bundle.request,
            config_json: &bundle.config_json,
            hand_over: asked.hand_over(),
        })
    };
    create().context(|| bundle::name("create", &id))?;
    Ok(0)
}
