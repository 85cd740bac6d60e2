//! Shipping builds: `cargo test --features off`.
#![cfg(feature = "off")]

use core::ffi::c_void;
use std::path::Path;
use std::time::Duration;

use hotreload::hotpatch_rs::{HotpatchError, HotpatchRuntime};
use hotreload::{frame, Code, Serving, Slot, PANICKED, UNRESOLVED};

static ADD: Slot<i64, i64, i64> = Slot::new(c"off.add", |state, input, output| {
    *state += input;
    *output = *state;
    0
});
static NOTHING: Slot<i64, i64, i64> = Slot::unresolved(c"off.nothing");
static PANICS: Slot<i64, i64, i64> = Slot::new(c"off.panics", |_, _, _| panic!("a fallback that panics"));

#[test]
fn slots_run_their_fallbacks() {
    let (mut state, mut output) = (1, 0);
    ADD.declare().unwrap();
    assert_eq!(ADD.call(&mut state, &2, &mut output), 0);
    assert_eq!(frame(|frame| frame.call(&ADD, &mut state, &2, &mut output)), 0);
    assert_eq!((state, output), (5, 5));
    assert_eq!(NOTHING.call(&mut state, &2, &mut output), UNRESOLVED);
    assert_eq!(PANICS.call(&mut state, &2, &mut output), PANICKED);
}

#[test]
fn a_host_runs_unchanged_and_loads_nothing() {
    // SAFETY: nothing is loaded, ever.
    unsafe {
        hotreload::serve("off", Serving::default()).unwrap();
        assert_eq!(hotreload::load("module.so").unwrap_err().code, Code::Usage);
        assert_eq!(hotreload::prepare(&["module.so"]).unwrap_err()[0].code, Code::Usage);
    }
    assert_eq!(hotreload::rollback(None).unwrap_err().code, Code::NoPrevious);
    assert_eq!((hotreload::poll(Duration::ZERO), hotreload::generation()), (0, 0));
    hotreload::safepoint();
    hotreload::stop();
}

#[test]
fn the_compatible_runtime_runs_fallbacks() {
    unsafe extern "C" fn answer(_: *mut c_void, _: *const c_void, _: *mut c_void) -> i32 {
        42
    }
    let runtime = HotpatchRuntime::new();
    runtime.register_fallback("b", answer).unwrap();
    runtime.register_fallback("a", answer).unwrap();
    assert!(matches!(runtime.register_fallback("a", answer), Err(HotpatchError::FallbackAlreadyRegistered(_))));
    assert_eq!(runtime.list_symbols(), ["a", "b"]);
    // SAFETY: the fallbacks look at nothing.
    let call = |symbol| unsafe { runtime.call_raw(symbol, std::ptr::null(), std::ptr::null_mut()) };
    assert_eq!(call("a").unwrap(), 42);
    assert!(matches!(call("c"), Err(HotpatchError::SymbolNotFound(_))));
    assert!(matches!(runtime.load_module("module.so"), Err(HotpatchError::LibraryLoad { .. })));
}

#[test]
fn nothing_of_c_was_compiled() {
    assert!(!Path::new(env!("OUT_DIR")).join("libhotreload_shim.a").exists());
}
