//! Us, by the typed Rust API.

use std::path::Path;
use std::time::Duration;

use harness::{Peer, State};
use hotreload::{Guard, Options, Slot};

struct Hotreload;

fn fallback(_state: &mut State, input: &i64, output: &mut i64) -> i32 {
    *output = *input;
    0
}

static A: Slot<State, i64, i64> = Slot::new(c"a", fallback).described();
static B: Slot<State, i64, i64> = Slot::new(c"b", fallback).described();

/// As in hotreload.c: a choice of the host's, on in the corpus of bad modules, where it is what is measured.
fn guard() {
    if std::env::var_os("PEERS_GUARD").is_some() {
        let guard = Guard { hang: Duration::from_millis(500), ..Guard::default() };
        let _ = hotreload::set_options(Options { guard: Some(guard), ..Options::default() });
    }
}

impl Peer for Hotreload {
    const NAME: &'static std::ffi::CStr = c"hotreload (Rust)";
    const PAIRS: bool = true;
    fn open(path: &Path, _scratch: &Path) -> bool {
        guard();
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
