//! The public API of `hotpatch-rs` 0.1 under the same names, on this crate's runtime.
//!
//! Its users change one line: the dependency,
//!
//! ```toml
//! hotpatch-rs = { package = "hotreload", git = "..." }
//! ```
//!
//! or the import: `use hotreload::hotpatch_rs::...` instead of `use hotpatch_rs::...`, or once `use hotreload as
//! hotpatch_rs;`. Their modules load as they are, without a new build. What is different:
//!
//! - a module is copied and checked before any of its code can run, and every slot of it changes in one step;
//! - loading content that is live already swaps nothing, and succeeds;
//! - a fallback registered for a slot that a module created before is accepted, and the module's function stays;
//! - symbols are 1 to 127 bytes of UTF-8; another one is refused as [`HotpatchError::InvalidModule`];
//! - calls hold no lock: an implementation may load modules and register fallbacks;
//! - `source` of an error is this crate's [`Error`], with code, reason, found, expected and fix.
//!
//! Additions: `serve`, `rollback`, `load`.

use std::fmt;

pub use crate::abi::{
    self, PatchEntryV1, PatchFn, PatchModuleV1, ABI_MAGIC_V1, ABI_VERSION_V1, MODULE_EXPORT_SYMBOL_V1,
};
use crate::error::Error;
pub use crate::hotpatch_module;
#[cfg(feature = "host")]
pub use crate::runtime::{HotpatchRuntime, ModuleLoadReport};

/// What this module's functions return.
pub type Result<T> = core::result::Result<T, HotpatchError>;

/// Why something was refused, in the words of `hotpatch-rs`. The host is as it was before.
#[derive(Debug)]
pub enum HotpatchError {
    /// The file cannot be read, is no loadable library, or needs symbols that nobody offers.
    LibraryLoad {
        /// The path as it was given.
        path: String,
        /// The cause, with code and cure.
        source: Error,
    },
    /// The library exports no manifest.
    MissingExport {
        /// `HOTPATCH_MODULE_V1`.
        symbol: &'static str,
        /// The cause, with code and cure.
        source: Error,
    },
    /// The manifest's magic or version differ.
    AbiMismatch {
        /// [`ABI_MAGIC_V1`].
        expected_magic: u32,
        /// The manifest's.
        got_magic: u32,
        /// [`ABI_VERSION_V1`].
        expected_version: u16,
        /// The manifest's.
        got_version: u16,
    },
    /// The manifest's struct size, names, counts or pointers are invalid.
    InvalidModule(String),
    /// Neither the host nor a module has named this symbol.
    SymbolNotFound(String),
    /// This symbol has a fallback.
    FallbackAlreadyRegistered(String),
    /// The module's hook returned a status other than 0.
    LifecycleFailed {
        /// The module's name.
        module: String,
        /// `on_load`.
        hook: &'static str,
        /// What it returned.
        status: i32,
    },
}

impl fmt::Display for HotpatchError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LibraryLoad { path, source } => write!(formatter, "cannot load {path}: {source}"),
            Self::MissingExport { symbol, source } => write!(formatter, "no export {symbol}: {source}"),
            Self::AbiMismatch { expected_magic, got_magic, expected_version, got_version } => write!(
                formatter,
                "the module's ABI is 0x{got_magic:08x} version {got_version}, this host's is \
                 0x{expected_magic:08x} version {expected_version}"
            ),
            Self::InvalidModule(reason) => write!(formatter, "invalid module: {reason}"),
            Self::SymbolNotFound(symbol) => write!(formatter, "no slot {symbol}"),
            Self::FallbackAlreadyRegistered(symbol) => write!(formatter, "{symbol} has a fallback already"),
            Self::LifecycleFailed { module, hook, status } => {
                write!(formatter, "{hook} of {module} returned {status}")
            }
        }
    }
}

impl std::error::Error for HotpatchError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::LibraryLoad { source, .. } | Self::MissingExport { source, .. } => Some(source),
            _ => None,
        }
    }
}
