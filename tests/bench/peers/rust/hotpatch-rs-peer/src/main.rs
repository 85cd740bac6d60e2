//! hotpatch-rs 0.1.0, and our crate in its place: the same source.

use std::path::Path;
use std::sync::OnceLock;

use harness::{Peer, State};
use hotpatch_rs::HotpatchRuntime;

struct HotpatchRs;

static RUNTIME: OnceLock<HotpatchRuntime> = OnceLock::new();

fn runtime() -> &'static HotpatchRuntime {
    RUNTIME.get_or_init(HotpatchRuntime::new)
}

fn call(symbol: &str, input: &i64, output: &mut i64) {
    // SAFETY: the modules' functions have these types. The state is one for all calls here, by the crate's design;
    // the work does not use it.
    let _ = unsafe { runtime().call_typed(symbol, input, output) };
}

unsafe extern "C" fn fallback(
    _state: *mut std::ffi::c_void,
    input: *const std::ffi::c_void,
    output: *mut std::ffi::c_void,
) -> i32 {
    // SAFETY: called with the pointers of `call`.
    unsafe { *output.cast::<i64>() = *input.cast::<i64>() };
    0
}

impl Peer for HotpatchRs {
    const NAME: &'static std::ffi::CStr = c"hotpatch-rs";
    fn open(path: &Path, _scratch: &Path) -> bool {
        // The context of the runtime is what its functions get as their state.
        let state: &'static mut [i64; 16] = Box::leak(Box::new([0; 16]));
        runtime().set_host_context(harness::raw(state));
        runtime().register_fallback("a", fallback).is_ok()
            && runtime().register_fallback("b", fallback).is_ok()
            && Self::load(path)
    }
    fn load(path: &Path) -> bool {
        runtime().load_module(path).inspect_err(|error| eprintln!("{error}")).is_ok()
    }
    fn a(_state: &mut State, input: &i64, output: &mut i64) {
        call("a", input, output);
    }
    fn b(_state: &mut State, input: &i64, output: &mut i64) {
        call("b", input, output);
    }
}

fn main() {
    harness::main::<HotpatchRs>()
}
