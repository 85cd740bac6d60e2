use harness::{Peer, State};

struct HotLibReloader;

impl Peer for HotLibReloader {
    const NAME: &'static std::ffi::CStr = c"hot-lib-reloader";
    const WATCHES: bool = true;
    fn open(_path: &std::path::Path, _scratch: &std::path::Path) -> bool {
        true // its first call opens the library and starts watching
    }
    fn a(state: &mut State, input: &i64, output: &mut i64) {
        hot::a(state, input, output);
    }
    fn b(state: &mut State, input: &i64, output: &mut i64) {
        hot::b(state, input, output);
    }
}

fn main() {
    harness::main::<HotLibReloader>()
}
