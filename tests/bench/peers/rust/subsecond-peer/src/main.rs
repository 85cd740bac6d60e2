//! subsecond 0.7.10: its calls and apply_patch, without the Dioxus CLI. The jump table, which the CLI computes, is made
//! from what run.py has written beside the patch: the addresses of its `main`, `a` and `b`.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::OnceLock;

use harness::{Peer, State};
use subsecond::{HotFn, JumpTable};

type Arguments = (*mut State, *const i64, *mut i64);

fn a(_state: *mut State, input: *const i64, output: *mut i64) -> i32 {
    // SAFETY: called with the pointers of `Peer::a`.
    unsafe { *output = *input };
    0
}

fn b(_state: *mut State, input: *const i64, output: *mut i64) -> i32 {
    // SAFETY: as above. Differs from `a`: equal functions may get one address, and one jump.
    unsafe { *output = *input + 1000 };
    0
}

struct Subsecond;

/// The addresses by which subsecond knows a and b: taken before the first patch, which hides them.
static KEYS: OnceLock<(u64, u64)> = OnceLock::new();

/// Of the module that is loaded next: PATCH_ADDRESSES holds "main,a,b" of each load of the run, from ';' to ';', and
/// starts again at its end.
fn next_addresses() -> (u64, u64, u64) {
    static LOADS: AtomicUsize = AtomicUsize::new(0);
    let all = std::env::var("PATCH_ADDRESSES").expect("PATCH_ADDRESSES");
    let modules: Vec<&str> = all.split(';').collect();
    let module = modules[LOADS.fetch_add(1, Ordering::Relaxed) % modules.len()];
    let mut numbers = module.split(',').map(|text| u64::from_str_radix(text, 16).expect("an address"));
    let mut next = || numbers.next().expect("three addresses");
    (next(), next(), next())
}

impl Peer for Subsecond {
    const NAME: &'static std::ffi::CStr = c"subsecond";
    fn open(path: &Path, _scratch: &Path) -> bool {
        let _ = KEYS.set((HotFn::current(a).ptr_address().0, HotFn::current(b).ptr_address().0));
        Self::load(path)
    }
    fn load(path: &Path) -> bool {
        let (new_base_address, new_a, new_b) = next_addresses();
        let &(key_a, key_b) = KEYS.get().expect("opened");
        let table = JumpTable {
            lib: path.to_path_buf(),
            map: [(key_a, new_a), (key_b, new_b)].into_iter().collect(),
            aslr_reference: subsecond::aslr_reference() as u64,
            new_base_address,
            ifunc_count: 0,
        };
        // SAFETY: what the table says is true of the modules of this benchmark.
        unsafe { subsecond::apply_patch(table) }.inspect_err(|error| eprintln!("{error}")).is_ok()
    }
    fn a(state: &mut State, input: &i64, output: &mut i64) {
        let arguments: Arguments = (state, input, output);
        HotFn::current(a).call(arguments);
    }
    fn b(state: &mut State, input: &i64, output: &mut i64) {
        let arguments: Arguments = (state, input, output);
        HotFn::current(b).call(arguments);
    }
}

fn main() {
    harness::main::<Subsecond>()
}
