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
mod patch;

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
#[cfg(feature = "host")]
pub use report::{Change, ChangeKind, Report, Steps, Warning};
#[cfg(feature = "host")]
pub use runtime::{HotpatchRuntime, ModuleLoadReport};
#[cfg(feature = "host")]
pub use slot::{frame, Frame, Slot};

/// For the macros alone.
#[doc(hidden)]
pub mod __patch {
    pub use crate::patch::{hook, name, raw_entry, typed_entry};
}
