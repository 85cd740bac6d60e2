//! What hot-lib-reloader loads: a Rust dylib of functions without mangled names, of the Rust ABI.

/// The beginning of `harness::State`, of which it gets a reference.
pub struct State {
    pub total: i64,
    pub guard: i64,
}

include!("../../work.rs");

#[no_mangle]
pub fn a(state: &mut State, input: &i64, output: &mut i64) -> i32 {
    // SAFETY: references.
    unsafe { work(state, input, output) }
}

#[no_mangle]
pub fn b(state: &mut State, input: &i64, output: &mut i64) -> i32 {
    // SAFETY: references.
    unsafe { work_b(state, input, output) }
}
