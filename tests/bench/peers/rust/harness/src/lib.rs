//! The C harness for Rust peers: see harness.h.

use std::ffi::{c_char, c_int, c_void, CStr, CString};
use std::path::Path;

hotreload::layout! {
    /// `hb_state`, described as in C; peers that compare no layouts do not look at it.
    #[derive(Clone, Copy)]
    #[layout(name = "hb_state")]
    pub struct State {
        pub total: i64,
        pub guard: i64,
        apart: [c_char; 112],
    }
}

#[repr(C)]
struct RawPeer {
    name: *const c_char,
    open: extern "C" fn(*const c_char, *const c_char) -> c_int,
    run: extern "C" fn(u64, *mut State),
    a: extern "C" fn(*mut State, i64) -> i64,
    b: extern "C" fn(*mut State, i64) -> i64,
    pair: Option<extern "C" fn(*mut State, i64, *mut i64)>,
    load: Option<extern "C" fn(*const c_char) -> c_int>,
    tick: Option<extern "C" fn()>,
    tick_us: u32,
    single_thread: u32,
}

extern "C" {
    fn hb_main(argc: c_int, argv: *const *const c_char, peer: *const RawPeer) -> c_int;
}

/// One peer. A panic in it ends the process, as it would end the thread of a host that does not expect it.
pub trait Peer {
    const NAME: &'static CStr;
    /// It watches its output; `load` is not called.
    const WATCHES: bool = false;
    /// It has a unit in which a and b are of one version.
    const PAIRS: bool = false;
    /// It polls inside calls: an idle host is ticked this often, in microseconds.
    const TICK_US: u32 = 0;
    /// Brings version 1 in. False: refused.
    fn open(path: &Path, scratch: &Path) -> bool;
    /// Swaps. False: refused.
    fn load(_path: &Path) -> bool {
        false
    }
    fn a(state: &mut State, input: &i64, output: &mut i64);
    fn b(state: &mut State, input: &i64, output: &mut i64);
    fn pair(_state: &mut State, _input: &i64, _output: &mut [i64; 2]) {}
}

fn path<'a>(text: *const c_char) -> &'a Path {
    // SAFETY: the harness passes strings that live as long as the process.
    Path::new(unsafe { CStr::from_ptr(text) }.to_str().expect("a path in UTF-8"))
}

extern "C" fn open<P: Peer>(output: *const c_char, scratch: *const c_char) -> c_int {
    c_int::from(!P::open(path(output), path(scratch)))
}

extern "C" fn load<P: Peer>(module: *const c_char) -> c_int {
    c_int::from(!P::load(path(module)))
}

extern "C" fn run<P: Peer>(calls: u64, state: *mut State) {
    let mut output = 0;
    for _ in 0..calls {
        // SAFETY: the harness passes its own state.
        P::a(unsafe { &mut *state }, &1, &mut output);
    }
}

extern "C" fn a<P: Peer>(state: *mut State, input: i64) -> i64 {
    let mut output = -1;
    // SAFETY: as above.
    P::a(unsafe { &mut *state }, &input, &mut output);
    output
}

extern "C" fn b<P: Peer>(state: *mut State, input: i64) -> i64 {
    let mut output = -1;
    // SAFETY: as above.
    P::b(unsafe { &mut *state }, &input, &mut output);
    output
}

extern "C" fn pair<P: Peer>(state: *mut State, input: i64, output: *mut i64) {
    // SAFETY: as above; output has two places.
    P::pair(unsafe { &mut *state }, &input, unsafe { &mut *output.cast() });
}

/// The program of a peer.
pub fn main<P: Peer>() -> ! {
    let arguments: Vec<CString> = std::env::args().map(|text| CString::new(text).expect("an argument")).collect();
    let pointers: Vec<*const c_char> = arguments.iter().map(|text| text.as_ptr()).collect();
    let peer = RawPeer {
        name: P::NAME.as_ptr(),
        open: open::<P>,
        run: run::<P>,
        a: a::<P>,
        b: b::<P>,
        pair: if P::PAIRS { Some(pair::<P>) } else { None },
        load: if P::WATCHES { None } else { Some(load::<P>) },
        tick: None,
        tick_us: P::TICK_US,
        single_thread: 0,
    };
    // SAFETY: a valid vector of arguments and a valid peer.
    std::process::exit(unsafe { hb_main(pointers.len() as c_int, pointers.as_ptr(), &peer) })
}

/// A pointer as peers with a C interface take it.
pub fn raw<T>(value: &mut T) -> *mut c_void {
    (value as *mut T).cast()
}
