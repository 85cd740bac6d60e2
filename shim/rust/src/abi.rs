//! The module ABI, byte for byte that of `hotpatch-rs` 0.1 (the mirror of `abi.h`).
//!
//! A patch module exports one data symbol, `HOTPATCH_MODULE_V1`, of type [`PatchModuleV1`]. Nothing here ever changes.

use core::ffi::{c_char, c_void, CStr};

use crate::hotpatch_rs::{HotpatchError, Result};

/// "HPT1", read as a big-endian word.
pub const ABI_MAGIC_V1: u32 = 0x4850_5431;
/// The version of the ABI that this crate speaks.
pub const ABI_VERSION_V1: u16 = 1;
/// The exported symbol, with its terminating zero.
pub const MODULE_EXPORT_SYMBOL_V1: &[u8] = b"HOTPATCH_MODULE_V1\0";
/// Bytes of a symbol or module name, without its terminating zero.
pub const NAME_MAX: usize = 127;
/// What a call of a slot without any implementation returns (-ENOSYS).
pub const UNRESOLVED: i32 = -38;
/// What a call returns whose implementation panicked (-ENOTRECOVERABLE).
///
/// Only typed implementations (`Slot::new`, [`patch_module!`](crate::patch_module)) do so; a panic
/// in a plain `extern "C"` function aborts the process, as everywhere in Rust.
pub const PANICKED: i32 = -131;

/// A slot's implementation. Returns a status that the host defines; 0 is success by convention.
pub type PatchFn = unsafe extern "C" fn(host_state: *mut c_void, input: *const c_void, output: *mut c_void) -> i32;

/// `on_load` (a non-zero result vetoes the swap) and `on_unload`.
pub type LifecycleFn = unsafe extern "C" fn(host_state: *mut c_void) -> i32;

/// One slot that a module implements.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PatchEntryV1 {
    /// The slot's symbol: UTF-8 with a terminating zero.
    pub name: *const c_char,
    /// The implementation.
    pub func: PatchFn,
    /// 0.
    pub flags: u32,
    /// 0.
    pub reserved: u32,
}

// SAFETY: an entry is only ever read; what it points to is immutable for the life of its module.
unsafe impl Sync for PatchEntryV1 {}

/// A module's manifest.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct PatchModuleV1 {
    /// [`ABI_MAGIC_V1`].
    pub abi_magic: u32,
    /// [`ABI_VERSION_V1`].
    pub abi_version: u16,
    /// `size_of::<PatchModuleV1>()`.
    pub struct_size: u16,
    /// A number of the author's choosing.
    pub module_version: u64,
    /// The module's name: UTF-8 with a terminating zero.
    pub name: *const c_char,
    /// How many `entries` there are.
    pub entry_count: u32,
    /// 0.
    pub reserved: u32,
    /// The first of `entry_count` entries.
    pub entries: *const PatchEntryV1,
    /// Runs before the commit; a non-zero status refuses the module.
    pub on_load: Option<LifecycleFn>,
    /// Runs once when the module backs no slot any more.
    pub on_unload: Option<LifecycleFn>,
}

// SAFETY: a manifest is only ever read; what it points to is immutable for the life of its module.
unsafe impl Sync for PatchModuleV1 {}

const _: () = assert!(core::mem::size_of::<PatchEntryV1>() == 24 && core::mem::size_of::<PatchModuleV1>() == 56);

impl PatchModuleV1 {
    /// Checks what the header alone shows. The shim's preflight checks all of this, and more, before it opens a module;
    /// this is for code that got a manifest by other ways.
    ///
    /// # Errors
    /// [`HotpatchError::AbiMismatch`] for another magic or version, [`HotpatchError::InvalidModule`] for the rest.
    pub fn validate_header(&self) -> Result<()> {
        if (self.abi_magic, self.abi_version) != (ABI_MAGIC_V1, ABI_VERSION_V1) {
            return Err(HotpatchError::AbiMismatch {
                expected_magic: ABI_MAGIC_V1,
                got_magic: self.abi_magic,
                expected_version: ABI_VERSION_V1,
                got_version: self.abi_version,
            });
        }
        let invalid = |reason: &str| Err(HotpatchError::InvalidModule(reason.to_owned()));
        if usize::from(self.struct_size) < core::mem::size_of::<Self>() {
            invalid("the manifest is smaller than version 1 of the ABI")
        } else if self.name.is_null() {
            invalid("the module has no name")
        } else if self.entry_count > 0 && self.entries.is_null() {
            invalid("the manifest counts entries but has none")
        } else {
            Ok(())
        }
    }

    /// The module's name.
    ///
    /// # Errors
    /// [`HotpatchError::InvalidModule`] when it is absent or not UTF-8.
    ///
    /// # Safety
    /// `name` is null or points to a zero-terminated string that lives as long as `self`.
    pub unsafe fn module_name(&self) -> Result<&str> {
        // SAFETY: the caller's promise.
        unsafe { c_ptr_to_str(self.name) }
    }

    /// The entries.
    ///
    /// # Safety
    /// `entries` points to `entry_count` entries that live as long as `self`.
    pub unsafe fn entries_slice(&self) -> &[PatchEntryV1] {
        if self.entry_count == 0 {
            return &[];
        }
        // SAFETY: the caller's promise.
        unsafe { core::slice::from_raw_parts(self.entries, self.entry_count as usize) }
    }
}

/// A C string as a `str`.
///
/// # Errors
/// [`HotpatchError::InvalidModule`] when it is null or not UTF-8.
///
/// # Safety
/// `text` is null or points to a zero-terminated string that lives for `'a`.
pub unsafe fn c_ptr_to_str<'a>(text: *const c_char) -> Result<&'a str> {
    if text.is_null() {
        return Err(HotpatchError::InvalidModule("a string pointer is null".to_owned()));
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_str().map_err(|_| HotpatchError::InvalidModule("a string is not valid UTF-8".to_owned()))
}
