//! What the code of the attribute macros calls: outputs that are returned instead of written behind a reference.

use core::mem::MaybeUninit;

#[cfg(feature = "host")]
use crate::Slot;

/// Puts what a function returned into the slot's output; the status of success.
pub fn give<O>(output: &mut MaybeUninit<O>, value: O) -> i32 {
    output.write(value);
    0
}

/// The same for a function that may fail: its error is the status. `Err(0)` would claim an output; it becomes -1.
pub fn give_result<O>(output: &mut MaybeUninit<O>, result: Result<O, i32>) -> i32 {
    match result {
        Ok(value) => give(output, value),
        Err(0) => -1,
        Err(status) => status,
    }
}

/// Calls a slot whose entries come from [`give`] or [`give_result`]; the error is the status.
#[cfg(feature = "host")]
#[inline]
pub fn call<S, I, O>(slot: &'static Slot<S, I, MaybeUninit<O>>, state: &mut S, input: &I) -> Result<O, i32> {
    // Zeroed: a module with a `&mut O` of its own must not find bytes that no number has.
    let mut output = MaybeUninit::zeroed();
    match slot.call(state, input, &mut output) {
        // SAFETY: an entry that returns 0 has given its output; whoever loads a module promises it of the module.
        0 => Ok(unsafe { output.assume_init() }),
        status => Err(status),
    }
}

/// The output of a slot whose functions cannot fail.
///
/// # Panics
/// When the status says that they did: an implementation panicked, or a module in another language failed.
#[cfg(feature = "host")]
#[inline]
pub fn value<S, I, O>(slot: &'static Slot<S, I, MaybeUninit<O>>, result: Result<O, i32>) -> O {
    match result {
        Ok(value) => value,
        Err(status) => failed(slot.symbol(), status),
    }
}

#[cfg(feature = "host")]
#[cold]
fn failed(symbol: &str, status: i32) -> ! {
    match status {
        crate::PANICKED => panic!("{symbol}: its implementation panicked; return Result<_, i32> to handle that"),
        _ => panic!("{symbol} returned status {status}; return Result<_, i32> to handle that"),
    }
}
