//! Hot reload for native programs: the running process calls the new code, its state intact.
//!
//! A **host** owns the state and calls **slots**: named patch points with a fallback. A **patch module** is a `cdylib`
//! that lists functions for slots; `hotreload watch target/release` swaps it into the running host when it is rebuilt.
//!
//! # A host
//!
//! ```no_run
//! use hotreload::{serve, Serving, Slot};
//!
//! #[derive(Default)]
//! #[repr(C)]
//! pub struct Counter { total: i64 }
//!
//! fn add(counter: &mut Counter, amount: &i64, total: &mut i64) -> i32 {
//!     counter.total += amount;
//!     *total = counter.total;
//!     0
//! }
//!
//! static ADD: Slot<Counter, i64, i64> = Slot::new(c"counter.add", add);
//!
//! fn main() -> Result<(), hotreload::Error> {
//!     ADD.declare()?;
//!     // SAFETY: the modules of this program are built from the same crate of shared types.
//!     unsafe { serve("counter", Serving::default())? };
//!     let (mut counter, mut total) = (Counter::default(), 0);
//!     loop {
//!         ADD.call(&mut counter, &1, &mut total);
//!         println!("{total}");
//!         std::thread::sleep(std::time::Duration::from_millis(100));
//!     }
//! }
//! ```
//!
//! # A patch module
//!
//! A crate with `crate-type = ["cdylib"]` and `hotreload = { ..., default-features = false }`: it needs nothing of C.
//!
//! ```
//! # #[repr(C)] pub struct Counter { total: i64 }
//! fn add(counter: &mut Counter, amount: &i64, total: &mut i64) -> i32 {
//!     counter.total += 10 * amount;
//!     *total = counter.total;
//!     0
//! }
//!
//! hotreload::patch_module!("counter", 2, [("counter.add", add)]);
//! # fn main() {}
//! ```
//!
//! # Features
//!
//! - `host` (default): everything that a host needs; compiles the C shim with `cc`.
//! - `off`: shipping builds. A slot call is a direct call of its fallback, nothing is served, loads are refused, and no
//!   C is compiled. The program's source stays as it is.
//!
//! - `macros`: the attributes `#[slot]` for hosts, `#[module]` and `#[patch]` for modules, and `#[derive(Layout)]`. It builds
//!   `syn`.
//!
//! # Layouts
//!
//! Host and module are built apart, and both work on the same memory. What [`layout!`] makes (or, with the feature
//! `macros`, what has `#[derive(Layout)]`) is described on both sides, field by field; a module that was built with
//! another idea of a type is refused before any of its code runs. C and C++ describe the same (`describe.h`): a Rust host
//! takes modules in C, and the other way round.
//!
//! - Host: `Slot::described`, or `#[slot]`, which sees by itself what is described.
//! - Module: `described("symbol", function)` in [`patch_module!`], or `#[patch]`.
//! - A struct that ends in a [`Reserve`] may grow into it; `State` and [`migrations!`] change the rest.
//!
//! # Panics and statuses
//!
//! A panic in a typed implementation becomes the status [`PANICKED`]; it does not cross into the host. This needs
//! `panic = "unwind"`, the default, in the profiles of host and modules.
//!
//! Users of `hotpatch-rs` find their API in [`hotpatch_rs`], and at the root.
#![deny(unsafe_op_in_unsafe_fn, missing_docs)]

#[cfg(not(all(unix, target_pointer_width = "64")))]
compile_error!("hotreload supports 64-bit Unix systems");

pub mod abi;
mod error;
pub mod hotpatch_rs;
mod layout;
#[cfg(feature = "macros")]
mod macros;
mod migrate;
mod patch;
mod spelling;

#[cfg(all(feature = "host", not(feature = "off")))]
mod call;
#[cfg(feature = "host")]
mod ffi;
#[cfg(feature = "host")]
mod host;
#[cfg(all(feature = "host", feature = "off"))]
mod off;
#[cfg(all(feature = "host", feature = "off"))]
use off as call;
#[cfg(feature = "host")]
mod names;
#[cfg(feature = "host")]
mod report;
#[cfg(feature = "host")]
mod runtime;
#[cfg(feature = "host")]
mod slot;
#[cfg(feature = "host")]
mod state;

pub use abi::{
    PatchEntryV1, PatchFn, PatchModuleV1, ABI_MAGIC_V1, ABI_VERSION_V1, MODULE_EXPORT_SYMBOL_V1, PANICKED, UNRESOLVED,
};
pub use error::{Code, Error, Refusal};
#[cfg(feature = "host")]
pub use host::{
    configure, generation, load, poll, prepare, rollback, safepoint, serve, set_context, set_options, stop, version,
    Guard, Options, Serving, Transaction,
};
pub use hotpatch_rs::{HotpatchError, Result};
pub use layout::{Layout, Reserve};
#[cfg(feature = "host")]
pub use report::{Change, ChangeKind, Report, Steps, Warning};
#[cfg(feature = "host")]
pub use runtime::{HotpatchRuntime, ModuleLoadReport};
#[cfg(feature = "host")]
pub use slot::{frame, Frame, Slot};
#[cfg(feature = "host")]
pub use state::State;

/// Makes a function of a host a slot: it is its own fallback, and is called as before, under its own name.
///
/// The function takes `&mut State` (the first parameter, if it is one), then `&Input` or `Input` (which is `Copy`), each
/// of which may be missing, and returns the output. Several inputs go into a struct.
///
/// | it returns | a status other than 0 is |
/// |---|---|
/// | `Output`, or nothing | a panic in the caller: of an implementation that panicked, or of a module in C that failed |
/// | `Result<Output, i32>` | the error |
/// | `i32`, with `&mut Output` as third parameter | what is returned |
///
/// Those of its types that are described ([`layout!`], `#[derive(Layout)]`; numbers are) are compared with the types of
/// every module's function, which is refused (`E-LAYOUT`) where they differ.
///
/// A type of the function's name has `declare()`, which makes the slot known (do it for all slots at the start), and
/// `slot()`, the [`Slot`] for [frames](frame).
///
/// ```
/// #[derive(Default)]
/// #[repr(C)]
/// pub struct Counter { total: i64 }
///
/// #[hotreload::slot("doc.macros.add")]
/// fn add(counter: &mut Counter, amount: i64) -> i64 {
///     counter.total += amount;
///     counter.total
/// }
///
/// add::declare()?;
/// let mut counter = Counter::default();
/// assert_eq!(add(&mut counter, 3), 3);
/// # Ok::<(), hotreload::Error>(())
/// ```
///
/// What no slot can be does not compile:
///
/// ```compile_fail
/// #[hotreload::slot("doc.two.inputs")]
/// fn add(a: i64, b: i64) -> i64 { a + b }
/// ```
/// ```compile_fail
/// #[hotreload::slot("doc.generic")]
/// fn same<T>(value: T) -> T { value }
/// ```
/// ```compile_fail
/// #[hotreload::slot("")]
/// fn nameless() {}
/// ```
#[cfg(all(feature = "macros", feature = "host"))]
pub use hotreload_macros::slot;

/// Describes a `#[repr(C)]` struct or union, or an enum without data, as [`layout!`] does with types that it makes.
///
/// ```
/// #[derive(Clone, Copy, hotreload::Layout)]
/// #[repr(C)]
/// pub enum Wave {
///     #[layout(name = "WAVE_SINE")] // as the C header calls it
///     Sine,
///     #[layout(name = "WAVE_SAW")]
///     Saw,
/// }
///
/// #[derive(Clone, Copy, hotreload::Layout)]
/// #[repr(C)]
/// pub struct Voice {
///     phase: f32,
///     wave: Wave,
///     spare: hotreload::Reserve<56>,
/// }
/// ```
///
/// What has no fixed layout does not compile:
///
/// ```compile_fail
/// #[derive(hotreload::Layout)]
/// pub struct Voice { phase: f32 }
/// ```
#[cfg(feature = "macros")]
pub use hotreload_macros::Layout;

/// Makes an inline Rust module a patch module: `#[patch("symbol")]` marks its functions for slots, `#[on_load]` and
/// `#[on_unload]` those from `*mut State` to a status.
///
/// The functions look like those of `#[slot]`; host and patch agree on the types, not on the form: what
/// returns `Result<Output, i32>` fits a slot that returns `Output`. Described types ([`layout!`], `#[derive(Layout)]`,
/// numbers) are compared with the host's when the module is loaded. A panic becomes the status [`PANICKED`].
///
/// ```
/// #[hotreload::module("counter", 2)]
/// mod patches {
///     #[repr(C)]
///     pub struct Counter { total: i64 }
///
///     #[patch("counter.add")]
///     fn add(counter: &mut Counter, amount: i64) -> i64 {
///         counter.total += 10 * amount;
///         counter.total
///     }
/// }
/// # fn main() {}
/// ```
/// ```compile_fail
/// #[hotreload::module("counter", 2)]
/// mod patches {
///     fn not_marked() {}
/// }
/// # fn main() {}
/// ```
/// ```compile_fail
/// #[hotreload::patch("counter.add")]
/// fn not_inside() {}
/// # fn main() {}
/// ```
#[cfg(feature = "macros")]
pub use hotreload_macros::module;
#[cfg(feature = "macros")]
#[doc(no_inline)]
pub use hotreload_macros::{on_load, on_unload, patch};

/// For the attribute macros alone.
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod __macros {
    #[cfg(feature = "host")]
    pub use crate::macros::{call, value};
    pub use crate::macros::{give, give_result};
}

/// For the macros alone.
#[doc(hidden)]
pub mod __patch {
    pub use crate::migrate::{migration, MigrateV1, MigrationV1};
    pub use crate::patch::{hook, name, raw_entry, typed_entry};
}

/// For the macros alone.
#[doc(hidden)]
pub mod __layout {
    pub use crate::layout::{
        described, entry, enumerator, field, nested, nested_enum, takes, EntryV1, FieldV1, LayoutV1, Probe, Shape,
        Text, TypeV1, Undescribed, ENUM, STRUCT, UNION,
    };
}
