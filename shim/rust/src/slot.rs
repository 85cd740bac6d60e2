//! Typed slots and frames.

use core::cell::UnsafeCell;
use core::ffi::{c_void, CStr};
use core::fmt;
use core::marker::PhantomData;
use core::mem::size_of;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::abi::PatchFn;
use crate::error::Error;
use crate::layout::{EntryV1, Layout, LayoutV1, TypeV1};
use crate::patch::{entry_point, is_valid_name};
use crate::state::State;
use crate::{call, ffi, report};

/// A named patch point whose implementations take `&mut S`, `&I` and `&mut O` and return a status.
///
/// A static of the host. Until it is declared (by [`declare`](Self::declare), or by its first call) it is not known to
/// anybody; then its fallback is version 0, and a module that lists its symbol replaces it in the running host.
///
/// ```
/// use hotreload::Slot;
///
/// #[derive(Default)]
/// struct Counter { total: i64 }
///
/// fn add(counter: &mut Counter, amount: &i64, total: &mut i64) -> i32 {
///     counter.total += amount;
///     *total = counter.total;
///     0
/// }
///
/// static ADD: Slot<Counter, i64, i64> = Slot::new(c"doc.counter.add", add);
///
/// let (mut counter, mut total) = (Counter::default(), 0);
/// assert_eq!(ADD.call(&mut counter, &5, &mut total), 0);
/// assert_eq!(total, 5);
/// ```
///
/// # Statuses
/// 0 is success by convention; other numbers are the host's and its modules' own, but for
/// [`UNRESOLVED`](crate::UNRESOLVED), when nothing implements the slot, and [`PANICKED`](crate::PANICKED).
pub struct Slot<S, I, O> {
    raw: ffi::Slot,
    takes: [Option<&'static TypeV1>; 3],
    /// Whether the shim knows `takes`: the slot's first call may have declared the slot alone.
    told: AtomicBool,
    types: PhantomData<fn(&mut S, &I, &mut O) -> i32>,
}

// SAFETY: a slot holds a static string, a function pointer that any thread may call (`new` asks for Send and Sync) and
// an atomic. The state is the caller's own at each call.
unsafe impl<S, I, O> Sync for Slot<S, I, O> {}
// SAFETY: as above.
unsafe impl<S, I, O> Send for Slot<S, I, O> {}

impl<S, I, O> Slot<S, I, O> {
    /// A slot whose version 0 is `fallback`: a function, or a closure that captures nothing. A panic in it becomes
    /// [`PANICKED`](crate::PANICKED).
    ///
    /// A function pointer, or a closure that captures something, does not compile.
    ///
    /// # Panics
    /// At compile time, in a static: when `symbol` is empty or longer than 127 bytes.
    ///
    /// ```compile_fail
    /// static BAD: hotreload::Slot<u8, u8, u8> = hotreload::Slot::new(c"", |_, _, _| 0);
    /// ```
    /// ```compile_fail
    /// let pointer: fn(&mut u8, &u8, &mut u8) -> i32 = |_, _, _| 0;
    /// let bad = hotreload::Slot::new(c"doc.pointer", pointer);
    /// ```
    pub const fn new<F>(symbol: &'static CStr, fallback: F) -> Self
    where
        F: Fn(&mut S, &I, &mut O) -> i32 + Copy + Send + Sync + 'static,
    {
        Self::raw(symbol, Some(entry_point(fallback)))
    }

    /// A slot without a fallback: calls return [`UNRESOLVED`](crate::UNRESOLVED) until a module implements it.
    ///
    /// # Panics
    /// At compile time, in a static: when `symbol` is empty or longer than 127 bytes.
    pub const fn unresolved(symbol: &'static CStr) -> Self {
        Self::raw(symbol, None)
    }

    const fn raw(symbol: &'static CStr, fallback: Option<PatchFn>) -> Self {
        assert!(is_valid_name(symbol), "a symbol has 1 to 127 bytes");
        let raw = ffi::Slot::undeclared(symbol.as_ptr(), fallback);
        Self { raw, takes: [None; 3], told: AtomicBool::new(false), types: PhantomData }
    }

    /// For `#[slot]`, which knows which of the types are described.
    #[doc(hidden)]
    #[must_use]
    pub const fn __taking(mut self, takes: [Option<&'static TypeV1>; 3]) -> Self {
        self.takes = takes;
        self
    }

    /// The slot's symbol.
    pub fn symbol(&self) -> &'static str {
        // SAFETY: raw took it from a static CStr.
        unsafe { CStr::from_ptr(self.raw.symbol) }.to_str().unwrap_or("")
    }

    /// Makes the slot known to modules and to `hotreload watch`. Do it for all slots at the start: a slot that is not
    /// declared is not shown, and a module for it is reported as undeclared.
    ///
    /// # Errors
    /// [`Code::Duplicate`](crate::Code::Duplicate) when another slot has declared the symbol,
    /// [`Code::Usage`](crate::Code::Usage) when it is no valid name, [`Code::Limit`](crate::Code::Limit),
    /// [`Code::Memory`](crate::Code::Memory). Declaring the same static twice is no error. Of a slot that is
    /// [described](Self::described): `Code::Usage` also when another slot has described one of its types in another way.
    pub fn declare(&'static self) -> Result<(), Error> {
        if self.raw.index.load(Ordering::Acquire) == 0 {
            // SAFETY: the slot is static; C writes its atomic index alone.
            match report::check(unsafe { ffi::hr_declare(null_mut(), &self.raw) }) {
                // Another thread declared this very slot meanwhile.
                Err(_) if self.raw.index.load(Ordering::Acquire) != 0 => {}
                result => result?,
            }
        }
        self.tell_layout()
    }

    fn tell_layout(&self) -> Result<(), Error> {
        if self.takes.iter().all(Option::is_none) || self.told.load(Ordering::Acquire) {
            return Ok(());
        }
        let entry = EntryV1 { symbol: self.raw.symbol, takes: self.takes };
        let layout = LayoutV1::of_entry(&entry);
        // SAFETY: a description that lives as long as the call, which copies it.
        report::failing(|failure| unsafe { ffi::hr_declare_layout(null_mut(), &layout, failure) })?;
        self.told.store(true, Ordering::Release);
        Ok(())
    }

    /// Calls what the slot runs now. `'static`: the shim may keep the slot's address.
    #[inline]
    pub fn call(&'static self, state: &mut S, input: &I, output: &mut O) -> i32 {
        let (state, input, output) = pointers(state, input, output);
        // SAFETY: the fallback has these types, and whoever loads a module (an unsafe act) promises it of the module.
        unsafe { call::call(&self.raw, state, input, output) }
    }
}

impl<S: Layout, I: Layout, O: Layout> Slot<S, I, O> {
    /// The slot with the layouts of its types: a module that says what it takes, and takes something else, is refused
    /// (`E-LAYOUT`, field by field) before any of its code runs.
    ///
    /// ```
    /// use hotreload::Slot;
    ///
    /// hotreload::layout! {
    ///     pub struct Counter { total: i64 }
    /// }
    ///
    /// fn add(counter: &mut Counter, amount: &i64, _: &mut ()) -> i32 { counter.total += amount; 0 }
    ///
    /// static ADD: Slot<Counter, i64, ()> = Slot::new(c"doc.described.add", add).described();
    /// ADD.declare()?;
    /// # Ok::<(), hotreload::Error>(())
    /// ```
    #[must_use]
    pub const fn described(self) -> Self {
        self.__taking([S::TYPE, I::TYPE, O::TYPE])
    }

    /// Calls what the slot runs now on state that modules may have migrated.
    #[inline]
    pub fn call_on(&'static self, state: &mut State<S>, input: &I, output: &mut O) -> i32 {
        let (input, output) = ((input as *const I).cast(), (output as *mut O).cast());
        // SAFETY: as call; the shim runs no code but such as was compiled for the state's layout.
        unsafe { call::call(&self.raw, state.as_ptr().cast(), input, output) }
    }
}

impl<S: Copy, I, O> Slot<S, I, O> {
    /// Tells the [guard](crate::Guard) that a call's state is the call's own: it is copied before each guarded call, and
    /// restored when that crashes or hangs, so that the implementation before finds it as it was. After
    /// [`declare`](Self::declare), once.
    ///
    /// `&mut` makes the state the call's own already. `Copy` makes sure that it owns nothing behind a pointer, which no
    /// copy would bring back.
    ///
    /// # Errors
    /// [`Code::NoSlot`](crate::Code::NoSlot) when it is not declared, [`Code::Usage`](crate::Code::Usage) for more than
    /// 1 MiB, [`Code::Memory`](crate::Code::Memory).
    pub fn guard_state(&'static self) -> Result<(), Error> {
        let size = u32::try_from(size_of::<S>()).unwrap_or(u32::MAX);
        // SAFETY: the slot is static.
        report::check(unsafe { ffi::hr_guard_state(&self.raw, size) })
    }
}

impl<S, I, O> fmt::Debug for Slot<S, I, O> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Slot").field("symbol", &self.symbol()).finish_non_exhaustive()
    }
}

/// One generation, pinned for this thread. See [`frame`].
///
/// It neither leaves its thread nor the call of [`frame`] that made it.
///
/// Handed out by shared reference only: two exclusive references could be swapped, and would end in the wrong order.
pub struct Frame {
    raw: UnsafeCell<ffi::Frame>,
    this_thread: PhantomData<*mut ()>,
}

/// Runs `tick` on one generation: all calls through the frame see the same commit, however many happen meanwhile.
///
/// The frame ends with `tick`, also when that panics. A guard in the caller's hands was rejected: frames have to end in
/// the order in which they began, and a value can be moved, kept or forgotten.
///
/// ```
/// use hotreload::{frame, Slot};
///
/// fn update(state: &mut u32, by: &u32, _: &mut ()) -> i32 { *state += by; 0 }
/// fn draw(state: &mut u32, _: &(), text: &mut String) -> i32 { *text = state.to_string(); 0 }
///
/// static UPDATE: Slot<u32, u32, ()> = Slot::new(c"doc.update", update);
/// static DRAW: Slot<u32, (), String> = Slot::new(c"doc.draw", draw);
///
/// let (mut state, mut text) = (1, String::new());
/// frame(|frame| {
///     frame.call(&UPDATE, &mut state, &2, &mut ());
///     frame.call(&DRAW, &mut state, &(), &mut text);
/// });
/// assert_eq!(text, "3");
/// ```
pub fn frame<R>(tick: impl FnOnce(&Frame) -> R) -> R {
    struct Ended(Frame);
    impl Drop for Ended {
        fn drop(&mut self) {
            // SAFETY: frames begin and end with calls of `frame`, hence in order and on one thread.
            unsafe { call::frame_end(self.0.raw.get()) }
        }
    }
    let frame = Ended(Frame { raw: UnsafeCell::new(call::frame_begin()), this_thread: PhantomData });
    tick(&frame.0)
}

impl Frame {
    /// Calls the implementation that the frame's generation has for `slot`.
    #[inline]
    pub fn call<S, I, O>(&self, slot: &'static Slot<S, I, O>, state: &mut S, input: &I, output: &mut O) -> i32 {
        let (state, input, output) = pointers(state, input, output);
        // SAFETY: as Slot::call; the frame lives as long as the call of `frame` that made it.
        unsafe { call::frame_call(self.raw.get(), &slot.raw, state, input, output) }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Frame")
    }
}

fn pointers<S, I, O>(state: &mut S, input: &I, output: &mut O) -> (*mut c_void, *const c_void, *mut c_void) {
    ((state as *mut S).cast(), (input as *const I).cast(), (output as *mut O).cast())
}

#[cfg(all(test, not(feature = "off")))]
mod tests {
    use super::*;

    static LOOK: Slot<(), (), u32> = Slot::new(c"unit.look", |_, _, active: &mut u32| {
        *active = call::active();
        0
    });

    fn look() -> u32 {
        let mut active = 0;
        assert_eq!(LOOK.call(&mut (), &(), &mut active), 0);
        active
    }

    #[test]
    fn this_thread_is_active_exactly_inside_calls_and_frames() {
        LOOK.declare().unwrap();
        let slot = 1 + LOOK.raw.index.load(Ordering::Relaxed);
        assert_eq!((look(), call::active()), (slot, 0));
        frame(|outer| {
            assert_eq!((look(), call::active()), (slot, 1));
            frame(|_| assert_eq!(call::active(), 1));
            assert_eq!(call::active(), 1, "the outer frame goes on");
            let mut active = 0;
            outer.call(&LOOK, &mut (), &(), &mut active);
            assert_eq!((active, call::active()), (slot, 1));
        });
        assert_eq!(call::active(), 0);
    }

    #[test]
    fn a_frame_ends_with_a_panic() {
        let unwound = std::panic::catch_unwind(|| {
            frame(|_| {
                assert_eq!(call::active(), 1);
                panic!("a tick that panics");
            })
        });
        assert!(unwound.is_err());
        assert_eq!(call::active(), 0, "a thread that stays active holds every old table back");
    }
}
