//! The parent's side of a birth: what is opened, made and recorded around the clone.

mod assets;
pub mod channel;
pub mod create;
pub mod exec;
pub mod foreground;
mod lock;
pub mod maps;
pub mod seal;
pub mod spawn;
pub mod terminal;
mod tune;
