//! set_mempolicy(2).

use rustix::io::Errno;

use super::outcome;

/// Sets the calling thread's NUMA policy. `mode` is MPOL_* with its flags; `nodes` the node numbers.
pub fn set_mempolicy(mode: u32, nodes: &[u32]) -> Result<(), Errno> {
    let bits = u64::BITS as usize;
    let words = nodes.iter().max().map_or(0, |&node| node as usize / bits + 1);
    let mut mask = vec![0u64; words];
    for &node in nodes {
        mask[node as usize / bits] |= 1 << (node as usize % bits);
    }
    // the kernel reads maxnode - 1 bits
    let maxnode = if words == 0 { 0 } else { words * bits + 1 };
    let pointer = if words == 0 { std::ptr::null() } else { mask.as_ptr() };
    // SAFETY: the mask holds maxnode - 1 bits and outlives the call.
    outcome(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, pointer, maxnode) }).map(drop)
}
