//! The API of `hotpatch-rs` 0.1, as its users write it: this file reads as theirs, but for the next line.
#![cfg(all(feature = "host", not(feature = "off")))]
use hotreload as hotpatch_rs;

mod common;

use core::ffi::c_void;
use std::sync::Arc;

use common::rust_module;
use hotpatch_rs::{HotpatchError, HotpatchRuntime, ModuleLoadReport, PatchFn, Result};

#[repr(C)]
struct State {
    total: i64,
}

unsafe extern "C" fn add(state: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
    // SAFETY: the tests below call with these types.
    unsafe {
        let state = &mut *state.cast::<State>();
        state.total += *input.cast::<i64>();
        *output.cast::<i64>() = state.total;
    }
    0
}

const MODULE: &str = r#"
    use hotreload as hotpatch_rs;
    use hotpatch_rs::{hotpatch_module, PatchFn};
    use core::ffi::c_void;

    unsafe extern "C" fn add(state: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
        let state = &mut *(state as *mut i64);
        *state += STEP * *(input as *const i64);
        *(output as *mut i64) = *state;
        0
    }
    unsafe extern "C" fn extra(_: *mut c_void, _: *const c_void, _: *mut c_void) -> i32 { 77 }
    #[allow(dead_code)] const CHECK: PatchFn = add;

    hotpatch_module!("counter", STEP, [("counter.add", add), ("counter.extra", extra)]);
"#;

fn module(step: u32) -> std::path::PathBuf {
    rust_module("counter", &MODULE.replace("STEP", &step.to_string()))
}

fn counter(state: &mut State) -> Result<HotpatchRuntime> {
    let runtime = HotpatchRuntime::default();
    runtime.set_host_context((state as *mut State).cast());
    runtime.register_fallback("counter.add", add as PatchFn)?;
    Ok(runtime)
}

fn call(runtime: &HotpatchRuntime, input: i64) -> Result<i64> {
    let mut output = 0_i64;
    // SAFETY: the types of add and of the modules; the state lives as long as its test.
    let status = unsafe { runtime.call_typed("counter.add", &input, &mut output)? };
    assert_eq!(status, 0);
    Ok(output)
}

#[test]
fn from_fallback_to_v1_to_v2_with_the_state_kept() -> Result<()> {
    let mut state = State { total: 0 };
    let runtime = counter(&mut state)?;
    assert_eq!((call(&runtime, 1)?, runtime.generation()), (1, 0));

    let first = module(10);
    let ModuleLoadReport { module_name, module_version, symbols, generation, source_path } =
        runtime.load_module(&first)?;
    assert_eq!((module_name.as_str(), module_version, generation), ("counter", 10, 1));
    assert_eq!((symbols.as_slice(), source_path), (&["counter.add".to_owned(), "counter.extra".to_owned()][..], first));
    assert_eq!(call(&runtime, 1)?, 11);

    runtime.load_module(module(100))?;
    assert_eq!((call(&runtime, 1)?, runtime.generation()), (111, 2));
    assert_eq!(runtime.loaded_modules(), [("counter".to_owned(), 10), ("counter".to_owned(), 100)]);
    assert_eq!(runtime.list_symbols(), ["counter.add", "counter.extra"]);
    Ok(())
}

#[test]
fn a_symbol_that_only_a_module_names_can_be_called() -> Result<()> {
    let mut state = State { total: 0 };
    let runtime = counter(&mut state)?;
    let absent = unsafe { runtime.call_raw("counter.extra", std::ptr::null(), std::ptr::null_mut()) };
    assert!(matches!(absent, Err(HotpatchError::SymbolNotFound(symbol)) if symbol == "counter.extra"));
    runtime.load_module(module(10))?;
    assert_eq!(unsafe { runtime.call_raw("counter.extra", std::ptr::null(), std::ptr::null_mut()) }?, 77);
    Ok(())
}

#[test]
fn the_same_content_again_succeeds_and_lists_its_symbols() -> Result<()> {
    let mut state = State { total: 0 };
    let runtime = counter(&mut state)?;
    let path = module(10);
    let first = runtime.load_module(&path)?;
    let again = runtime.load_module(&path)?;
    assert_eq!((again.symbols, again.generation), (first.symbols, 1));
    Ok(())
}

#[test]
fn a_second_fallback_is_refused() -> Result<()> {
    let mut state = State { total: 0 };
    let runtime = counter(&mut state)?;
    let error = runtime.register_fallback(String::from("counter.add"), add).unwrap_err();
    assert!(matches!(error, HotpatchError::FallbackAlreadyRegistered(symbol) if symbol == "counter.add"));
    for name in ["", "with\0zero", &"x".repeat(128)] {
        assert!(matches!(runtime.register_fallback(name, add), Err(HotpatchError::InvalidModule(_))));
    }
    Ok(())
}

#[test]
fn runtimes_are_name_spaces_of_their_own() -> Result<()> {
    let (mut one, mut two) = (State { total: 0 }, State { total: 0 });
    let (first, second) = (counter(&mut one)?, counter(&mut two)?);
    first.load_module(module(10))?;
    assert_eq!((call(&first, 1)?, call(&second, 1)?), (10, 1));
    assert_eq!((first.generation(), second.generation()), (1, 0));
    drop(first);
    // Its slots are given back: many runtimes in turn do not use the table up.
    for _ in 0..10_000 {
        counter(&mut one)?;
    }
    assert_eq!(call(&second, 1)?, 2);
    Ok(())
}

#[test]
fn an_arc_is_shared_between_threads() -> Result<()> {
    let mut state = State { total: 0 };
    let runtime = Arc::new(counter(&mut state)?);
    let other = Arc::clone(&runtime);
    let total = std::thread::spawn(move || call(&other, 5)).join().unwrap()?;
    assert_eq!((total, call(&runtime, 1)?), (5, 6));
    Ok(())
}

#[test]
fn an_implementation_may_use_the_runtime_that_calls_it() -> Result<()> {
    unsafe extern "C" fn reenter(state: *mut c_void, _: *const c_void, _: *mut c_void) -> i32 {
        // SAFETY: the context is the runtime itself.
        let runtime = unsafe { &*state.cast::<HotpatchRuntime>() };
        runtime.register_fallback("inner", add).map_or(1, |()| 0)
    }
    let runtime = HotpatchRuntime::new();
    runtime.set_host_context((&raw const runtime).cast_mut().cast());
    runtime.register_fallback("outer", reenter)?;
    assert_eq!(unsafe { runtime.call_raw("outer", std::ptr::null(), std::ptr::null_mut()) }?, 0);
    assert_eq!(runtime.list_symbols(), ["inner", "outer"]);
    Ok(())
}
