//! What reloads itself with libhotpatch.

use libhotpatch::hotpatch;

pub enum State {}

include!("../../work.rs");

#[hotpatch]
unsafe fn a(state: *mut State, input: *const i64, output: *mut i64) -> i32 {
    unsafe { work(state, input, output) }
}

#[hotpatch]
unsafe fn b(state: *mut State, input: *const i64, output: *mut i64) -> i32 {
    unsafe { work_b(state, input, output) }
}

/// For the host, which opens the first copy by hand.
///
/// # Safety
/// Valid pointers, to types as the host has them.
#[no_mangle]
pub unsafe extern "C" fn enter_a(state: *mut State, input: *const i64, output: *mut i64) {
    unsafe { a(state, input, output) };
}

/// For the host, which opens the first copy by hand.
///
/// # Safety
/// Valid pointers, to types as the host has them.
#[no_mangle]
pub unsafe extern "C" fn enter_b(state: *mut State, input: *const i64, output: *mut i64) {
    unsafe { b(state, input, output) };
}
