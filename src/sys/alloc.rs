//! The allocator of a program that lives for milliseconds: a pointer that only moves forward.
//!
//! A command allocates a few hundred KiB and ends. Giving memory back costs more than it saves: musl's
//! allocator makes 70 system calls in a `run`. What was allocated last can be freed and can grow in place, so
//! that loops do not leak; when the arena is used up, the system's allocator takes over.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Zeroed memory that costs nothing until it is touched.
const SIZE: usize = 4 << 20;

pub struct Bump {
    arena: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
}

// SAFETY: each byte of the arena is handed out once, guarded by the atomic `used`.
unsafe impl Sync for Bump {}

impl Bump {
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self { arena: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0) }
    }

    fn base(&self) -> usize {
        self.arena.get() as usize
    }

    /// The offset of a pointer into the arena.
    fn offset(&self, pointer: *mut u8) -> Option<usize> {
        (pointer as usize).checked_sub(self.base()).filter(|&offset| offset < SIZE)
    }

    /// Moves the end of what is used, if it is still where the caller saw it.
    fn move_end(&self, from: usize, to: usize) -> bool {
        self.used.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

// SAFETY: blocks are aligned, lie inside the arena and never overlap: `used` grows past a block before it is
// handed out, and shrinks only over the block that was handed out last.
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        loop {
            let used = self.used.load(Ordering::Relaxed);
            let start = (self.base() + used).next_multiple_of(layout.align()) - self.base();
            let Some(end) = start.checked_add(layout.size()).filter(|&end| end <= SIZE) else {
                // SAFETY: the caller's promises are passed on.
                return unsafe { System.alloc(layout) };
            };
            if self.move_end(used, end) {
                // SAFETY: `start` lies inside the arena.
                return unsafe { self.arena.get().cast::<u8>().add(start) };
            }
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match self.offset(pointer) {
            Some(start) => drop(self.move_end(start + layout.size(), start)),
            // SAFETY: what is not in the arena came from the system.
            None => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(start) = self.offset(pointer) else {
            // SAFETY: what is not in the arena came from the system.
            return unsafe { System.realloc(pointer, layout, size) };
        };
        let fits = start.checked_add(size).is_some_and(|end| end <= SIZE);
        if fits && self.move_end(start + layout.size(), start + size) {
            return pointer;
        }
        if size <= layout.size() {
            return pointer;
        }
        // SAFETY: the size is the caller's, the alignment that of the layout it vouches for.
        let fresh = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !fresh.is_null() {
            // SAFETY: both blocks are at least as long as the old one, and distinct.
            unsafe { std::ptr::copy_nonoverlapping(pointer, fresh, layout.size()) };
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_apart_and_the_last_can_grow_and_go() {
        static BUMP: Bump = Bump::new();
        let bump = &BUMP;
        let layout = Layout::from_size_align(24, 8).expect("layout");
        // SAFETY: every block is freed with the layout that it was made with, and only used in between.
        unsafe {
            let a = bump.alloc(layout);
            let b = bump.alloc(layout);
            assert!(b as usize >= a as usize + 24 && (b as usize).is_multiple_of(8));
            assert_eq!(bump.realloc(b, layout, 240), b, "the last grows in place");
            let moved = bump.realloc(a, layout, 48);
            assert_ne!(moved, a);
            bump.dealloc(moved, Layout::from_size_align(48, 8).expect("layout"));
            assert_eq!(bump.alloc(layout), moved, "the last was given back");
            let huge = Layout::from_size_align(SIZE + 1, 1).expect("layout");
            let outside = bump.alloc(huge);
            assert!(bump.offset(outside).is_none());
            bump.dealloc(outside, huge);
        }
    }
}
