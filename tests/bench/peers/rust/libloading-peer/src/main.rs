//! libloading alone, as a careful program uses it: symbols looked up once a load, old libraries kept.

use std::ffi::c_void;
use std::path::Path;
use std::sync::atomic::{AtomicPtr, Ordering};

use harness::{Peer, State};
use libloading::Library;

type Step = unsafe extern "C" fn(*mut c_void, *const c_void, *mut c_void) -> i32;

struct Libloading;

static A: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
static B: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

#[inline]
fn call(function: &AtomicPtr<c_void>, state: &mut State, input: &i64, output: &mut i64) {
    // SAFETY: set by `load` to a function of this type before the first call.
    let function: Step = unsafe { std::mem::transmute(function.load(Ordering::Acquire)) };
    unsafe { function(harness::raw(state), (input as *const i64).cast(), harness::raw(output)) };
}

impl Peer for Libloading {
    const NAME: &'static std::ffi::CStr = c"libloading";
    fn open(path: &Path, _scratch: &Path) -> bool {
        Self::load(path)
    }
    fn load(path: &Path) -> bool {
        // SAFETY: the modules have no initialisers; a and b are of type Step.
        let loaded: Result<(), libloading::Error> = (|| unsafe {
            let library = Library::new(path)?;
            let (a, b) = (*library.get::<Step>(b"a\0")?, *library.get::<Step>(b"b\0")?);
            std::mem::forget(library); // another thread may be inside the old one
            A.store(a as *mut c_void, Ordering::Release);
            B.store(b as *mut c_void, Ordering::Release);
            Ok(())
        })();
        loaded.inspect_err(|error| eprintln!("{error}")).is_ok()
    }
    #[inline]
    fn a(state: &mut State, input: &i64, output: &mut i64) {
        call(&A, state, input, output);
    }
    #[inline]
    fn b(state: &mut State, input: &i64, output: &mut i64) {
        call(&B, state, input, output);
    }
}

fn main() {
    harness::main::<Libloading>()
}
