//! A patch as subsecond wants it: functions in the shape of its jump table's targets, and a `main` to be found by.

pub enum State {}

include!("../../work.rs");

type Arguments = (*mut State, *const i64, *mut i64);

#[no_mangle]
pub fn a(_function: &mut (), arguments: Arguments) -> i32 {
    // SAFETY: called with the host's pointers.
    unsafe { work(arguments.0, arguments.1, arguments.2) }
}

#[no_mangle]
pub fn b(_function: &mut (), arguments: Arguments) -> i32 {
    // SAFETY: as above.
    unsafe { work_b(arguments.0, arguments.1, arguments.2) }
}

#[no_mangle]
pub extern "C" fn main() {}
