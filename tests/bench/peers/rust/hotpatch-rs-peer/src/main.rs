//! hotpatch-rs 0.1.0, and our crate in its place: the same source.

use std::cell::UnsafeCell;
use std::path::Path;
use std::sync::OnceLock;

use harness::{Peer, State};
use hotpatch_rs::HotpatchRuntime;

struct HotpatchRs;

static RUNTIME: OnceLock<HotpatchRuntime> = OnceLock::new();

fn runtime() -> &'static HotpatchRuntime {
    RUNTIME.get_or_init(HotpatchRuntime::new)
}

/// The context of the runtime, which its functions get as their state: in the layout of `State`.
struct Context(UnsafeCell<[i64; 16]>);
// SAFETY: the work does not touch it.
unsafe impl Sync for Context {}
static CONTEXT: Context = Context(UnsafeCell::new([0; 16]));

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
        runtime().set_host_context(CONTEXT.0.get().cast());
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
    fn b(state: &mut State, input: &i64, output: &mut i64) {
        call("b", input, output);
        // SAFETY: nobody writes it but a module that was built for another struct, which is what shall be seen.
        state.guard = unsafe { CONTEXT.0.get().read_volatile()[1] };
    }
}

fn main() {
    harness::main::<HotpatchRs>()
}
