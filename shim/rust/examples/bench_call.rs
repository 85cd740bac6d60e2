//! What a counted, safely reclaimable slot call costs against a call through a plain function pointer.
//!
//!     cargo run --release --example bench_call
//!
//! Prints nanoseconds a call, the best of nine rounds taken in turns, on 1 and 2 threads. The ratio is the result: the
//! times belong to this machine and this moment.

use core::ffi::c_void;
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

use hotreload::hotpatch_rs::{HotpatchRuntime, PatchFn};
use hotreload::{Error, Slot};

const CALLS: u64 = 10_000_000;
const ROUNDS: usize = 9;

static ADD: Slot<u64, u64, u64> = Slot::new(c"bench.add", add);

fn add(state: &mut u64, input: &u64, output: &mut u64) -> i32 {
    *state = state.wrapping_add(*input);
    *output = *state;
    0
}

/// The same work behind the C ABI, for the plain pointer and the slot by name.
unsafe extern "C" fn add_plain(state: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
    // SAFETY: called with the pointers of the loops below.
    let (state, input, output) = unsafe { (&mut *state.cast::<u64>(), &*input.cast::<u64>(), &mut *output.cast()) };
    add(state, input, output)
}

fn plain_pointer(calls: u64) {
    let mut function: PatchFn = add_plain;
    // The compiler must not know which function it is; it is loaded at every call, as a swappable pointer is.
    let function = black_box(&mut function);
    let (mut state, mut output) = (0_u64, 0_u64);
    for i in 0..calls {
        // SAFETY: the types are those of add_plain; the pointer is valid.
        unsafe {
            let function = std::ptr::read_volatile(function);
            function(raw_mut(&mut state).cast(), (&i as *const u64).cast(), raw_mut(&mut output).cast());
        }
    }
    black_box(output);
}

fn raw_mut(value: &mut u64) -> *mut u64 {
    value
}

fn typed_slot(calls: u64) {
    let (mut state, mut output) = (0, 0);
    for i in 0..calls {
        ADD.call(&mut state, &i, &mut output);
    }
    black_box(output);
}

fn slot_by_name(runtime: &HotpatchRuntime, calls: u64) {
    let mut output = 0_u64;
    for i in 0..calls {
        // SAFETY: the types are those of add_plain.
        unsafe { runtime.call_typed("bench.add", &i, &mut output).expect("registered") };
    }
    black_box(output);
}

/// Nanoseconds a call, all threads at it at once.
fn measure(threads: usize, calls: u64, work: &(dyn Fn(u64) + Sync)) -> f64 {
    let start = Barrier::new(threads + 1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    work(1000); // attaches the thread
                    start.wait();
                    let begin = Instant::now();
                    work(calls);
                    begin.elapsed()
                })
            })
            .collect();
        start.wait();
        let times = workers.into_iter().map(|worker| worker.join().expect("a worker that does not panic"));
        times.map(|time| time.as_secs_f64()).fold(0.0, f64::max) * 1e9 / calls as f64
    })
}

unsafe extern "C" fn add_without_state(_: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
    // SAFETY: called with the pointers of slot_by_name. The runtime's context is shared by threads: no state here.
    unsafe { *output.cast::<u64>() = input.cast::<u64>().read().wrapping_add(1) };
    0
}

fn main() -> Result<(), Error> {
    ADD.declare()?;
    let runtime = HotpatchRuntime::new();
    runtime.register_fallback("bench.add", add_without_state).expect("a new symbol");
    println!(
        "{:>7}  {:>14}  {:>10}  {:>6}  {:>22}",
        "threads", "pointer ns", "slot ns", "ratio", "by name ns (call_raw)"
    );
    for threads in [1, 2] {
        let (mut pointer, mut slot, mut named) = (f64::MAX, f64::MAX, f64::MAX);
        for _ in 0..ROUNDS {
            pointer = pointer.min(measure(threads, CALLS, &plain_pointer));
            slot = slot.min(measure(threads, CALLS, &typed_slot));
            named = named.min(measure(threads, CALLS / 10, &|calls| slot_by_name(&runtime, calls)));
        }
        println!("{threads:>7}  {pointer:>14.2}  {slot:>10.2}  {:>6.2}  {named:>22.2}", slot / pointer);
    }
    Ok(())
}
