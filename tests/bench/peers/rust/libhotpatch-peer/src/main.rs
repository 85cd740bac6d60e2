//! libhotpatch 1.2: the library reloads itself, inside calls of its functions; the program only opens its first copy.

use std::path::Path;
use std::sync::OnceLock;

use harness::{Peer, State};
use libloading::Library;

type Run = unsafe extern "C" fn(*mut State, &i64, &mut i64);

struct Libhotpatch;

static ENTRIES: OnceLock<(Run, Run)> = OnceLock::new();

impl Peer for Libhotpatch {
    const NAME: &'static std::ffi::CStr = c"libhotpatch";
    const WATCHES: bool = true;
    const TICK_US: u32 = 16_667;
    fn open(path: &Path, scratch: &Path) -> bool {
        // As its documentation asks: a copy outside of the directory that is built into.
        let copy = scratch.join(path.file_name().expect("a file"));
        std::fs::copy(path, &copy).expect("a writable directory");
        // SAFETY: the library has no initialisers that matter here, and is never closed.
        unsafe {
            let library = Library::new(copy).expect("a library");
            let entries =
                (*library.get::<Run>(b"enter_a\0").expect("a"), *library.get::<Run>(b"enter_b\0").expect("b"));
            std::mem::forget(library);
            ENTRIES.set(entries).is_ok()
        }
    }
    fn a(state: &mut State, input: &i64, output: &mut i64) {
        // SAFETY: the types of the module's functions.
        unsafe { ENTRIES.get().expect("opened").0(state, input, output) };
    }
    fn b(state: &mut State, input: &i64, output: &mut i64) {
        // SAFETY: as above.
        unsafe { ENTRIES.get().expect("opened").1(state, input, output) };
    }
}

fn main() {
    harness::main::<Libhotpatch>()
}
