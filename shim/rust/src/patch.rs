//! What patch modules and fallbacks share: Rust functions behind the C ABI, and the macros that export a manifest.

use core::ffi::{c_char, c_void, CStr};
use core::mem;
use core::ptr::NonNull;
use std::panic::{catch_unwind, AssertUnwindSafe};

use crate::abi::{LifecycleFn, PatchEntryV1, PatchFn, NAME_MAX, PANICKED};

/// The C entry of `function`; it returns [`PANICKED`] when `function` panics.
///
/// The function is part of the type `F`, so that its entry is one plain function that holds no data: that is what fits
/// into a slot. A function *pointer* or a capturing closure is data, and is refused at compile time.
pub const fn entry_point<S, I, O, F>(_function: F) -> PatchFn
where
    F: Fn(&mut S, &I, &mut O) -> i32 + Copy + Send + Sync + 'static,
{
    assert_no_data::<F>();
    enter::<S, I, O, F>
}

/// One line of a manifest. For [`patch_module!`](crate::patch_module).
#[doc(hidden)]
pub const fn typed_entry<S, I, O, F>(symbol: &'static str, function: F) -> PatchEntryV1
where
    F: Fn(&mut S, &I, &mut O) -> i32 + Copy + Send + Sync + 'static,
{
    raw_entry(symbol, entry_point(function))
}

/// One line of a manifest; `symbol` ends in a zero. For the macros.
#[doc(hidden)]
pub const fn raw_entry(symbol: &'static str, func: PatchFn) -> PatchEntryV1 {
    PatchEntryV1 { name: name(symbol), func, flags: 0, reserved: 0 }
}

/// A name for a manifest, checked at compile time; `text` ends in its terminating zero. For the macros.
#[doc(hidden)]
pub const fn name(text: &'static str) -> *const c_char {
    match CStr::from_bytes_with_nul(text.as_bytes()) {
        Ok(text) if is_valid_name(text) => text.as_ptr(),
        _ => panic!("a name has 1 to 127 bytes, none of them zero"),
    }
}

pub(crate) const fn is_valid_name(name: &CStr) -> bool {
    let length = name.to_bytes().len();
    length >= 1 && length <= NAME_MAX
}

/// The C entry of a module's `on_load` or `on_unload`. For [`patch_module!`](crate::patch_module).
///
/// The hook takes a pointer, not a reference: the host may not have set a context (null), and may use it meanwhile.
#[doc(hidden)]
pub const fn hook<S, F: Fn(*mut S) -> i32 + Copy + Send + Sync + 'static>(_function: F) -> LifecycleFn {
    assert_no_data::<F>();
    enter_hook::<S, F>
}

/// Inline const: a compile-time error also where the caller is not in a static.
pub(crate) const fn assert_no_data<F>() {
    const {
        assert!(mem::size_of::<F>() == 0, "a function or a closure without captures is needed, not a function pointer");
    }
}

/// The one value of a type without data that some caller had in hand.
///
/// # Safety
/// `F` is `Copy` and of size zero, and a value of it was given to this crate.
pub(crate) unsafe fn conjure<F: Copy>() -> F {
    // SAFETY: a dangling, aligned pointer is valid for reads of size zero; copying the value that the caller had is
    // what `Copy` allows, and Send + Sync (at the entries' bounds) let any thread do it.
    unsafe { NonNull::<F>::dangling().as_ptr().read() }
}

unsafe extern "C" fn enter<S, I, O, F: Fn(&mut S, &I, &mut O) -> i32 + Copy>(
    state: *mut c_void,
    input: *const c_void,
    output: *mut c_void,
) -> i32 {
    // SAFETY: entry_point took a value of F and checked its size.
    let function = unsafe { conjure::<F>() };
    // SAFETY: the host calls a slot with pointers to the slot's types, exclusive where they are mutable.
    let (state, input, output) = unsafe { (&mut *state.cast::<S>(), &*input.cast::<I>(), &mut *output.cast::<O>()) };
    status_of(|| function(state, input, output))
}

unsafe extern "C" fn enter_hook<S, F: Fn(*mut S) -> i32 + Copy>(state: *mut c_void) -> i32 {
    // SAFETY: hook took a value of F and checked its size.
    let function = unsafe { conjure::<F>() };
    status_of(|| function(state.cast::<S>()))
}

/// Runs `function`; a panic must not reach C, where it would abort the host.
///
/// The state may be half changed after a panic. That is the host's to judge: it gets the status. Poisoning the slot was
/// rejected, because the next patch is often the cure.
pub(crate) fn status_of(function: impl FnOnce() -> i32) -> i32 {
    catch_unwind(AssertUnwindSafe(function)).unwrap_or_else(|payload| {
        // A payload's own destructor may panic as well; that second payload is given up.
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            mem::forget(second);
        }
        PANICKED
    })
}

/// Exports a patch module whose functions are `unsafe extern "C"` ([`PatchFn`]), as in `hotpatch-rs`.
///
/// ```
/// use core::ffi::c_void;
/// use hotreload::hotpatch_rs::hotpatch_module;
///
/// unsafe extern "C" fn add(_state: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
///     *output.cast::<i64>() = *input.cast::<i64>() + 1;
///     0
/// }
///
/// hotpatch_module!("counter", 1, [("counter.add", add)]);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! hotpatch_module {
    ($name:literal, $version:expr, [$(($symbol:literal, $function:path)),* $(,)?] $(,)?) => {
        $crate::export_module!($name, $version, None, None,
            [$($crate::__patch::raw_entry(concat!($symbol, "\0"), $function)),*]);
    };
}

/// Exports a patch module of safe, typed functions: `fn(&mut State, &Input, &mut Output) -> i32`.
///
/// A panic in one of them becomes the status [`PANICKED`](crate::PANICKED). The types must be those of the host's
/// slots: keep them in a crate that host and modules share, and make them there with [`layout!`](crate::layout). Then
/// the module can say that a function's types are *described*: their layouts go with the module, and one that was built
/// with another idea of them than the host's is refused (`E-LAYOUT`) instead of corrupting its state.
///
/// `on_load` and `on_unload` may follow, in this order, as functions from `*mut State` (the host's context, null when it
/// set none) to a status.
///
/// ```
/// hotreload::layout! {
///     pub struct State { pub total: i64 }
/// }
///
/// fn add(state: &mut State, amount: &i64, total: &mut i64) -> i32 {
///     state.total += amount;
///     *total = state.total;
///     0
/// }
///
/// fn text(state: &mut State, _: &(), text: &mut String) -> i32 { // a String's layout is not fixed: not described
///     *text = state.total.to_string();
///     0
/// }
///
/// fn check(state: *mut State) -> i32 {
///     if state.is_null() { 1 } else { 0 } // not zero: this module is refused
/// }
///
/// hotreload::patch_module!(
///     "counter", 2, [described("counter.add", add), ("counter.text", text)], on_load = check);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! patch_module {
    ($name:literal, $version:expr, [$($($described:ident)? ($symbol:literal, $function:expr)),* $(,)?]
     $(, on_load = $on_load:expr)? $(, on_unload = $on_unload:expr)? $(,)?) => {
        $crate::export_module!($name, $version,
            $crate::__optional_hook!($($on_load)?), $crate::__optional_hook!($($on_unload)?),
            [$($crate::__patch::typed_entry(concat!($symbol, "\0"), $function)),*]);
        $crate::__described_entries! { [] $([$($described)?] $symbol, $function;)* }
    };
}

/// Says once in a module whether it may be unmapped when it backs no slot and nothing points into it any more, whatever
/// the host's option says: `quiescent` or `never`. The latter is for modules that hide pointers to themselves: packed,
/// or in the kernel's hands.
///
/// ```
/// hotreload::unload_module!(never);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! unload_module {
    (never) => {
        $crate::unload_module!(@ 0);
    };
    (quiescent) => {
        $crate::unload_module!(@ 1);
    };
    (@ $when:literal) => {
        #[doc(hidden)]
        #[allow(unsafe_code)]
        #[used]
        #[no_mangle]
        pub static HOTPATCH_UNLOAD_V1: u32 = $when;
    };
}

/// The layouts of the entries that are marked as described; nothing where none is.
#[doc(hidden)]
#[macro_export]
macro_rules! __described_entries {
    ([]) => {};
    ([$($entry:expr),+]) => {
        $crate::export_layout! { $($entry),+ }
    };
    ([$($entry:expr),*] [] $symbol:literal, $function:expr; $($rest:tt)*) => {
        $crate::__described_entries! { [$($entry),*] $($rest)* }
    };
    ([$($entry:expr),*] [described] $symbol:literal, $function:expr; $($rest:tt)*) => {
        $crate::__described_entries! {
            [$($entry,)* $crate::__layout::takes(concat!($symbol, "\0"), $function)] $($rest)*
        }
    };
}

/// `HOTPATCH_LAYOUT_V1`.
#[doc(hidden)]
#[macro_export]
macro_rules! export_layout {
    ($($entry:expr),*) => {
        #[doc(hidden)]
        static HOTPATCH_LAYOUT_ENTRIES: &[$crate::__layout::EntryV1] = &[$($entry),*];

        #[doc(hidden)]
        #[allow(unsafe_code)]
        #[used]
        #[no_mangle]
        pub static HOTPATCH_LAYOUT_V1: $crate::__layout::LayoutV1 =
            $crate::__layout::LayoutV1::of_entries(HOTPATCH_LAYOUT_ENTRIES);
    };
}

/// What is known of a type's layout, where its name is known.
#[doc(hidden)]
#[macro_export]
macro_rules! __type_of {
    ($kind:ty) => {{
        #[allow(unused_imports)]
        use $crate::__layout::Undescribed as _;
        <$crate::__layout::Probe<$kind>>::TYPE
    }};
}

/// The manifest itself; the two macros above differ in how they make its entries.
#[doc(hidden)]
#[macro_export]
macro_rules! export_module {
    ($name:literal, $version:expr, $on_load:expr, $on_unload:expr, [$($entry:expr),*]) => {
        #[doc(hidden)]
        static HOTPATCH_ENTRIES: &[$crate::PatchEntryV1] = &[$($entry),*];

        #[doc(hidden)]
        #[no_mangle]
        pub static HOTPATCH_MODULE_V1: $crate::PatchModuleV1 = $crate::PatchModuleV1 {
            abi_magic: $crate::ABI_MAGIC_V1,
            abi_version: $crate::ABI_VERSION_V1,
            struct_size: ::core::mem::size_of::<$crate::PatchModuleV1>() as u16,
            module_version: $version,
            name: $crate::__patch::name(concat!($name, "\0")),
            entry_count: HOTPATCH_ENTRIES.len() as u32,
            reserved: 0,
            entries: HOTPATCH_ENTRIES.as_ptr(),
            on_load: $on_load,
            on_unload: $on_unload,
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __optional_hook {
    () => {
        None
    };
    ($function:expr) => {
        Some($crate::__patch::hook($function))
    };
}
