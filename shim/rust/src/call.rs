//! The inline call path of `slot.h`, in Rust. Its invariants I1 to I4, and the partner of every barrier, stand there.
//!
//! It is written again, rather than called, because a call into C costs more than all of it. `hr_thread_shard` is a
//! thread-local of C, which stable Rust cannot name; this thread's pointer is therefore cached in a thread-local of our
//! own. The cached pointer outlives every other thread-local's destructor: the shim gives a shard back in its last
//! round of key destructors. A forked child finds its own shard at the same address.

use core::cell::Cell;
use core::ffi::c_void;
use core::ptr::{addr_of, null_mut};
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{compiler_fence, AtomicU64};

use crate::ffi::{self, hr_dispatch, Entry, Frame, Shard, Slot, Table};

thread_local! {
    // const, and without a destructor: a plain read of thread-local memory, never a lazy initialisation.
    static SHARD: Cell<*mut Shard> = const { Cell::new(null_mut()) };
}

/// Calls the slot's current implementation; returns its status, or `UNRESOLVED` where it has none.
///
/// # Safety
/// The pointers are what the slot's implementations expect. Not left by an unwind: implementations are `extern "C"`.
#[inline]
pub(crate) unsafe fn call(slot: &Slot, state: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
    let shard = SHARD.get();
    if shard.is_null() {
        // SAFETY: the caller's promise.
        return unsafe { call_detached(slot, state, input, output) };
    }
    // SAFETY: a shard is valid as long as its thread runs; the table is protected from enter to leave (I2).
    unsafe {
        let index = slot.index.load(Acquire);
        let previous = enter(shard, index + 1);
        count(shard, index);
        let result = invoke(slot, hr_dispatch.table.load(Acquire), index, state, input, output);
        leave(shard, previous);
        result
    }
}

/// Pins the current table for this thread.
#[inline]
pub(crate) fn frame_begin() -> Frame {
    let shard = SHARD.get();
    if shard.is_null() {
        return frame_begin_detached();
    }
    // SAFETY: as in call; the frame keeps the shard active until frame_end.
    unsafe {
        let previous = enter(shard, ffi::HR_ACTIVE_FRAME);
        let table = hr_dispatch.table.load(Acquire);
        Frame { table, shard, previous, generation: (*table).generation as u32 }
    }
}

/// Like [`call`], on the frame's generation.
///
/// # Safety
/// As [`call`]; the frame is this thread's, has begun and not ended, and is the innermost one.
#[inline]
pub(crate) unsafe fn frame_call(
    frame: *mut Frame,
    slot: &Slot,
    state: *mut c_void,
    input: *const c_void,
    output: *mut c_void,
) -> i32 {
    let index = slot.index.load(Acquire);
    // SAFETY: the frame protects its table; its shard is this thread's, or null. No reference to the frame is held
    // across the implementation, which may call through the same frame.
    unsafe {
        let Frame { table, shard, generation, .. } = *frame;
        // As in C: the frame's table may be older than the slot.
        if shard.is_null() || generation < slot.born.load(Relaxed) {
            return ffi::hr_frame_call_detached(frame, slot, state, input, output);
        }
        let previous = enter(shard, index + 1);
        count(shard, index);
        let result = invoke(slot, table, index, state, input, output);
        leave(shard, previous);
        result
    }
}

/// Ends a frame.
///
/// # Safety
/// The frame is this thread's innermost one and has not ended; nothing uses it afterwards.
#[inline]
pub(crate) unsafe fn frame_end(frame: *mut Frame) {
    // SAFETY: the caller's promise.
    unsafe {
        let Frame { shard, previous, .. } = *frame;
        if shard.is_null() {
            ffi::hr_frame_end_detached(frame);
        } else {
            leave(shard, previous);
        }
    }
}

/// Whether something waits for this host's safe point.
#[inline]
pub(crate) fn safe_point_wanted() -> bool {
    // SAFETY: a static of C that is only ever accessed atomically.
    unsafe { hr_dispatch.safe_point_wanted.load(Relaxed) != 0 }
}

#[inline(always)]
unsafe fn enter(shard: *mut Shard, number: u32) -> u32 {
    // SAFETY: the shard is valid; all of its fields that two threads touch are atomic.
    unsafe {
        let previous = (*shard).active.load(Relaxed);
        if previous == 0 {
            // Partners: the release increment in reclaim.c, and its acquire load of this epoch. See hr_enter.
            (*shard).epoch.store(hr_dispatch.epoch.load(Acquire), Release);
        }
        (*shard).active.store(number, Relaxed);
        compiler_fence(SeqCst); // I2: the compiler keeps the order, membarrier makes the processor do so
        previous
    }
}

#[inline(always)]
unsafe fn leave(shard: *mut Shard, previous: u32) {
    // Release: partner is the reclaimer's acquire load of 0. SAFETY: the shard is valid.
    unsafe { (*shard).active.store(previous, Release) }
}

#[inline(always)]
unsafe fn count(shard: *mut Shard, index: u32) {
    // SAFETY: a shard has a counter for every index that was ever published. The shard is this thread's own (I3), so
    // that a load and a store suffice. The pointer is made without a reference: the array is longer than its type says.
    unsafe {
        let calls = addr_of!((*shard).calls).cast::<AtomicU64>().add(index as usize);
        (*calls).store((*calls).load(Relaxed) + 1, Relaxed);
    }
}

#[inline(always)]
unsafe fn invoke(
    slot: &Slot,
    table: *const Table,
    index: u32,
    state: *mut c_void,
    input: *const c_void,
    output: *mut c_void,
) -> i32 {
    // SAFETY: I4 makes entries[index] exist, I1 keeps its function unchanged; the rest is the caller's promise.
    unsafe {
        let entry = addr_of!((*table).entries).cast::<Entry>().add(index as usize);
        if (*entry).flags.load(Relaxed) == 0 {
            ((*entry).function)(state, input, output)
        } else {
            ffi::hr_call_slow(slot, table, index, state, input, output)
        }
    }
}

/// The first call of a thread, and every call of a thread that gets no shard of its own.
#[cold]
#[inline(never)]
unsafe fn call_detached(slot: &Slot, state: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
    attach();
    // SAFETY: the caller's promise.
    unsafe { ffi::hr_call_slot(slot, state, input, output) }
}

#[cold]
#[inline(never)]
fn frame_begin_detached() -> Frame {
    attach();
    // SAFETY: no conditions; it serves threads with and without a shard.
    unsafe { ffi::hr_frame_begin_detached() }
}

fn attach() {
    // SAFETY: no conditions. Null stays "not attached": this thread then takes the way through C every time.
    SHARD.set(unsafe { ffi::hr_thread_attach() });
}

/// What this thread's shard says: 0 outside, 1 in a frame, else 1 + the index of the slot that is called.
#[cfg(test)]
pub(crate) fn active() -> u32 {
    let shard = SHARD.get();
    assert!(!shard.is_null(), "this system gives no thread a shard of its own");
    // SAFETY: as in call.
    unsafe { (*shard).active.load(Relaxed) }
}
