//! Us, by the typed Rust API.

use std::path::Path;

use harness::{Peer, State};
use hotreload::Slot;

struct Hotreload;

fn fallback(_state: &mut State, input: &i64, output: &mut i64) -> i32 {
    *output = *input;
    0
}

static A: Slot<State, i64, i64> = Slot::new(c"a", fallback);
static B: Slot<State, i64, i64> = Slot::new(c"b", fallback);

impl Peer for Hotreload {
    const NAME: &'static std::ffi::CStr = c"hotreload (Rust)";
    const PAIRS: bool = true;
    fn open(path: &Path, _scratch: &Path) -> bool {
        A.declare().is_ok() && B.declare().is_ok() && Self::load(path)
    }
    fn load(path: &Path) -> bool {
        // SAFETY: the modules take these types.
        unsafe { hotreload::load(path) }.inspect_err(|error| eprintln!("{error}")).is_ok()
    }
    #[inline]
    fn a(state: &mut State, input: &i64, output: &mut i64) {
        A.call(state, input, output);
    }
    #[inline]
    fn b(state: &mut State, input: &i64, output: &mut i64) {
        B.call(state, input, output);
    }
    fn pair(state: &mut State, input: &i64, output: &mut [i64; 2]) {
        hotreload::frame(|frame| {
            frame.call(&A, state, input, &mut output[0]);
            frame.call(&B, state, input, &mut output[1]);
        });
    }
}

fn main() {
    harness::main::<Hotreload>()
}
