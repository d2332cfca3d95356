//! sd_notify(3) and sd_notify_barrier(3).

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::process::ExitCode;

fn said(result: std::io::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(95),
        Err(e) => {
            eprintln!("notify: {e}");
            ExitCode::FAILURE
        }
    }
}

fn connected() -> std::io::Result<UnixDatagram> {
    let path = std::env::var_os("NOTIFY_SOCKET").ok_or(std::io::Error::other("no NOTIFY_SOCKET"))?;
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    Ok(socket)
}

/// The same datagram several times; nobody has to take more than the first.
pub fn notify(bytes: &[u8], times: u64) -> ExitCode {
    let send = || {
        let socket = connected()?;
        socket.send(bytes)?;
        for _ in 1..times {
            let _ = socket.send(bytes);
        }
        Ok(true)
    };
    said(send())
}

/// Says BARRIER=1 with a descriptor and waits until nobody has that any more.
pub fn barrier() -> ExitCode {
    let wait = || {
        let socket = connected()?;
        let (ours, theirs) = std::io::pipe()?;
        let fds = [theirs.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        sendmsg(&socket, &[IoSlice::new(b"BARRIER=1")], &mut control, SendFlags::empty())?;
        drop(theirs);
        let limit = Timespec { tv_sec: 5, tv_nsec: 0 };
        Ok(poll(&mut [PollFd::new(&ours, PollFlags::IN)], Some(&limit))? == 1)
    };
    said(wait())
}
