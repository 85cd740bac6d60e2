//! The `off` feature: what the rest of the crate calls, without the shim. Slots run their fallbacks, nothing is served.
//!
//! The same names and signatures as `call.rs` and the prototypes in `ffi.rs`, so that there is one implementation of
//! all the rest; C has its own `off.h` for the same end.

use core::ffi::{c_char, c_int, c_void};
use core::ptr::null_mut;

use crate::abi::UNRESOLVED;
use crate::ffi::{Failure, Frame, Manifest, Options, Report, Runtime, Slot, State, Transaction, Visit, HR_OK};
use crate::layout::LayoutV1;

/// `HR_E_USAGE`: there is nothing to load into.
const HR_E_USAGE: i32 = 46;
const HR_E_NO_SLOT: i32 = 41;
const HR_E_NO_PREVIOUS: i32 = 42;

#[inline]
pub(crate) unsafe fn call(slot: &Slot, state: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
    match slot.fallback {
        // SAFETY: the caller's promise.
        Some(fallback) => unsafe { fallback(state, input, output) },
        None => UNRESOLVED,
    }
}

#[inline]
pub(crate) fn frame_begin() -> Frame {
    Frame { table: null_mut(), shard: null_mut(), previous: 0, generation: 0 }
}

#[inline]
pub(crate) unsafe fn frame_call(
    _: *mut Frame,
    slot: &Slot,
    state: *mut c_void,
    input: *const c_void,
    output: *mut c_void,
) -> i32 {
    // SAFETY: the caller's promise.
    unsafe { call(slot, state, input, output) }
}

#[inline]
pub(crate) unsafe fn frame_end(_: *mut Frame) {}

#[inline]
pub(crate) fn safe_point_wanted() -> bool {
    false
}

pub(crate) unsafe fn hr_version() -> *const c_char {
    c"off".as_ptr()
}
pub(crate) unsafe fn hr_status_text(_: i32) -> *const c_char {
    c"this program was built with the feature `off`: no module can be loaded".as_ptr()
}
pub(crate) unsafe fn hr_status_fix(_: i32) -> *const c_char {
    c"build it without the feature `off`".as_ptr()
}
pub(crate) unsafe fn hr_configure(_: u32) -> i32 {
    HR_OK
}
pub(crate) unsafe fn hr_set_options(_: *const Options) -> i32 {
    HR_OK
}
pub(crate) unsafe fn hr_runtime_new(_: *mut *mut Runtime) -> i32 {
    HR_OK
}
pub(crate) unsafe fn hr_runtime_free(_: *mut Runtime) {}
pub(crate) unsafe fn hr_set_context(_: *mut Runtime, _: *mut c_void) {}
pub(crate) unsafe fn hr_generation(_: *mut Runtime) -> u64 {
    0
}
pub(crate) unsafe fn hr_declare(_: *mut Runtime, _: *const Slot) -> i32 {
    HR_OK
}
pub(crate) unsafe fn hr_declare_layout(_: *mut Runtime, _: *const LayoutV1, _: *mut Failure) -> i32 {
    HR_OK
}
pub(crate) unsafe fn hr_state_register(_: *mut Runtime, _: *const State) -> i32 {
    HR_OK
}
pub(crate) unsafe fn hr_state_unregister(_: *mut Runtime, _: *const c_void) {}
pub(crate) unsafe fn hr_guard_state(_: *const Slot, _: u32) -> i32 {
    HR_OK
}
pub(crate) unsafe fn hr_find(_: *mut Runtime, _: *const c_char, _: *mut Slot) -> i32 {
    HR_E_NO_SLOT
}
pub(crate) unsafe fn hr_each_symbol(_: *mut Runtime, _: Visit, _: *mut c_void) {}
pub(crate) unsafe fn hr_each_module(_: *mut Runtime, _: Visit, _: *mut c_void) {}
pub(crate) unsafe fn hr_load(_: *mut Runtime, _: *const c_char, _: *mut *mut Report) -> i32 {
    HR_E_USAGE
}
pub(crate) unsafe fn hr_rollback(_: *mut Runtime, _: *const c_char, _: *mut *mut *mut Report, _: *mut u32) -> i32 {
    HR_E_NO_PREVIOUS
}
pub(crate) unsafe fn hr_prepare(
    _: *mut Runtime,
    _: *const *const c_char,
    _: u32,
    _: *mut *mut Report,
    _: *mut *mut Transaction,
) -> i32 {
    HR_E_USAGE
}
pub(crate) unsafe fn hr_commit(_: *mut Transaction, _: *mut *mut Report) -> i32 {
    HR_E_USAGE
}
pub(crate) unsafe fn hr_abort(_: *mut Transaction) {}
pub(crate) unsafe fn hr_report_free(_: *mut Report) {}
pub(crate) unsafe fn hr_reports_free(_: *mut *mut Report, _: u32) {}
pub(crate) unsafe fn hr_serve(_: *mut Runtime, _: *const c_char, _: u32, _: *mut Failure) -> i32 {
    HR_OK
}
pub(crate) unsafe fn hr_stop() {}
pub(crate) unsafe fn hr_poll(_: c_int) -> c_int {
    0
}
pub(crate) unsafe fn hr_safepoint_reached() {}
pub(crate) unsafe fn hr_inspect(_: *const c_char, _: *mut Failure, _: *mut *mut Manifest) -> i32 {
    HR_E_USAGE
}
pub(crate) unsafe fn hr_manifest_free(_: *mut Manifest) {}
