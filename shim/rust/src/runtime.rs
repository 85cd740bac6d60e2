//! [`HotpatchRuntime`]: slots by name, in a name space of its own.

use core::ffi::c_void;
use core::ptr::null;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::abi::{PatchFn, ABI_MAGIC_V1, ABI_VERSION_V1};
use crate::error::{Code, Error};
use crate::host::{Runtime, Serving};
use crate::hotpatch_rs::{HotpatchError, Result};
use crate::names::Names;
use crate::report::{self, ChangeKind, Report};
use crate::{call, ffi};

/// What a load did.
#[derive(Debug, Clone)]
pub struct ModuleLoadReport {
    /// The name in the module's manifest.
    pub module_name: String,
    /// The version in the module's manifest.
    pub module_version: u64,
    /// The symbols that it lists, in its order.
    pub symbols: Vec<String>,
    /// The runtime's commits so far, this one included.
    pub generation: u64,
    /// The path as it was given.
    pub source_path: PathBuf,
}

/// A slot of the runtime, found once.
#[derive(Clone, Copy)]
struct Handle {
    index: u32,
    /// For builds with the feature `off`, where there is nothing else to call.
    fallback: Option<PatchFn>,
    /// False for slots that a module created.
    declared: bool,
}

/// Slots and modules by name, with a context that every call receives as its state.
///
/// ```
/// use core::ffi::c_void;
/// use hotreload::hotpatch_rs::HotpatchRuntime;
///
/// unsafe extern "C" fn add(_state: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
///     *output.cast::<i64>() = *input.cast::<i64>() + 1;
///     0
/// }
///
/// let runtime = HotpatchRuntime::new();
/// runtime.register_fallback("doc.add", add)?;
/// let mut output = 0_i64;
/// let status = unsafe { runtime.call_typed("doc.add", &41_i64, &mut output)? };
/// assert_eq!((status, output), (0, 42));
/// # Ok::<(), hotreload::hotpatch_rs::HotpatchError>(())
/// ```
pub struct HotpatchRuntime {
    runtime: Runtime,
    context: AtomicPtr<c_void>,
    /// Handles of slots that have been registered or called; a cache of the shim's registry, which is behind a lock.
    slots: Names<Handle>,
}

impl Default for HotpatchRuntime {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HotpatchRuntime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("HotpatchRuntime").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

impl HotpatchRuntime {
    /// A runtime without slots. Its slots are given back when it is dropped; its modules stay mapped.
    ///
    /// # Panics
    /// When there is no memory for the process's tables.
    pub fn new() -> Self {
        let runtime = Runtime::new().expect("memory for the dispatch table and the black box");
        Self { runtime, context: AtomicPtr::default(), slots: Names::new() }
    }

    /// The state that calls, `on_load` and `on_unload` receive from now on.
    pub fn set_host_context(&self, ptr: *mut c_void) {
        self.context.store(ptr, Ordering::Release);
        self.runtime.set_context(ptr);
    }

    /// Number of commits so far.
    pub fn generation(&self) -> u64 {
        self.runtime.generation()
    }

    /// Makes `symbol` a slot with `fallback` as version 0.
    ///
    /// # Errors
    /// [`HotpatchError::FallbackAlreadyRegistered`]; [`HotpatchError::InvalidModule`] when the symbol is no valid name,
    /// or no slot is left.
    pub fn register_fallback(&self, symbol: impl Into<String>, fallback: PatchFn) -> Result<()> {
        let symbol = symbol.into();
        self.slots.update(&symbol, |slot| {
            if slot.is_some_and(|slot| slot.declared) {
                return Err(HotpatchError::FallbackAlreadyRegistered(symbol.clone()));
            }
            let index = self.declare(&symbol, fallback).map_err(|error| match error.code {
                Code::Duplicate => HotpatchError::FallbackAlreadyRegistered(symbol.clone()),
                _ => HotpatchError::InvalidModule(format!("slot {symbol:?}: {error}")),
            })?;
            Ok(Handle { index, fallback: Some(fallback), declared: true })
        })?;
        Ok(())
    }

    /// All symbols, sorted.
    pub fn list_symbols(&self) -> Vec<String> {
        if cfg!(feature = "off") {
            return self.slots.sorted();
        }
        collect(|visit, list| {
            // SAFETY: the runtime is valid; visit gets the list that it casts to.
            unsafe { ffi::hr_each_symbol(self.runtime.as_ptr(), visit, list) }
        })
        .into_iter()
        .map(|(symbol, _)| symbol)
        .collect()
    }

    /// Calls a slot with raw pointers and returns its status.
    ///
    /// # Errors
    /// [`HotpatchError::SymbolNotFound`].
    ///
    /// # Safety
    /// The context, `input` and `output` are what every implementation of the slot expects, now and after every load.
    pub unsafe fn call_raw(&self, symbol: &str, input: *const c_void, output: *mut c_void) -> Result<i32> {
        let handle = self.handle(symbol)?;
        // `born` is for frames alone, which this API does not have.
        let slot = ffi::Slot { index: AtomicU32::new(handle.index), ..ffi::Slot::undeclared(null(), handle.fallback) };
        // SAFETY: the index is this runtime's, which `self` keeps alive; the rest is the caller's promise. No lock is
        // held: the implementation may use the runtime.
        Ok(unsafe { call::call(&slot, self.context.load(Ordering::Acquire), input, output) })
    }

    /// Calls a slot with typed input and output.
    ///
    /// # Errors
    /// [`HotpatchError::SymbolNotFound`].
    ///
    /// # Safety
    /// As [`call_raw`](Self::call_raw): `I` and `O` are what every implementation of the slot expects.
    pub unsafe fn call_typed<I, O>(&self, symbol: &str, input: &I, output: &mut O) -> Result<i32> {
        // SAFETY: the caller's promise.
        unsafe { self.call_raw(symbol, (input as *const I).cast(), (output as *mut O).cast()) }
    }

    /// Loads a module: all of its slots change in one step, or nothing does.
    ///
    /// Safe as in `hotpatch-rs`: what may go wrong with a module's types goes wrong in a call, and calls are unsafe.
    ///
    /// # Errors
    /// Every variant but those of slots.
    pub fn load_module<P: AsRef<Path>>(&self, path: P) -> Result<ModuleLoadReport> {
        let path = path.as_ref();
        let report = self.load(path).map_err(|error| refusal(path, error))?;
        Ok(ModuleLoadReport {
            symbols: symbols(&report),
            module_name: report.module,
            module_version: report.version,
            generation: report.generation,
            source_path: path.to_path_buf(),
        })
    }

    /// Name and version of every module accepted so far, in order.
    pub fn loaded_modules(&self) -> Vec<(String, u64)> {
        collect(|visit, list| {
            // SAFETY: the runtime is valid; visit gets the list that it casts to.
            unsafe { ffi::hr_each_module(self.runtime.as_ptr(), visit, list) }
        })
    }

    /// Like [`load_module`](Self::load_module), with this crate's report and error. Not in `hotpatch-rs`.
    ///
    /// # Errors
    /// Every code of a refused module.
    pub fn load(&self, path: impl AsRef<Path>) -> core::result::Result<Report, Error> {
        self.runtime.load(path.as_ref())
    }

    /// Takes back `module`, or all that the newest commit brought in. Not in `hotpatch-rs`. See [`crate::rollback`].
    ///
    /// # Errors
    /// [`Code::NoPrevious`](crate::Code::NoPrevious) when there is nothing to take back.
    pub fn rollback(&self, module: Option<&str>) -> core::result::Result<Vec<Report>, Error> {
        self.runtime.rollback(module)
    }

    /// Lets `hotreload watch` find and drive this process, until the runtime is dropped. Not in `hotpatch-rs`.
    ///
    /// # Errors
    /// As [`crate::serve`].
    pub fn serve(&self, name: &str) -> core::result::Result<(), Error> {
        self.runtime.serve(name, Serving::default())
    }

    /// The slot's handle, from the cache or from the registry (a module may have created it).
    fn handle(&self, symbol: &str) -> Result<Handle> {
        match self.slots.get(symbol) {
            Some(handle) => Ok(handle),
            None => self.find(symbol),
        }
    }

    #[cold]
    fn find(&self, symbol: &str) -> Result<Handle> {
        let missing = |_| HotpatchError::SymbolNotFound(symbol.to_owned());
        let name = report::c_string(symbol.as_bytes(), "the symbol").map_err(missing)?;
        let mut slot = ffi::Slot::undeclared(null(), None);
        // SAFETY: valid pointers.
        report::check(unsafe { ffi::hr_find(self.runtime.as_ptr(), name.as_ptr(), &mut slot) }).map_err(missing)?;
        let handle = Handle { index: slot.index.into_inner(), fallback: slot.fallback, declared: false };
        // Declared meanwhile: what the registration wrote stays.
        self.slots.update(symbol, |known| Ok(known.unwrap_or(handle)))
    }

    fn declare(&self, symbol: &str, fallback: PatchFn) -> core::result::Result<u32, Error> {
        let name = report::c_string(symbol.as_bytes(), "the symbol")?;
        let slot = ffi::Slot::undeclared(name.as_ptr(), Some(fallback));
        // SAFETY: valid pointers; the registry copies the name and keeps no address of the slot.
        report::check(unsafe { ffi::hr_declare(self.runtime.as_ptr(), &slot) })?;
        Ok(slot.index.into_inner())
    }
}

/// The symbols of the module. A report of the same content has no changes: its file tells them.
fn symbols(report: &Report) -> Vec<String> {
    if report.same && report.changes.is_empty() {
        return report::symbols_of_file(&report.path);
    }
    let listed = report.changes.iter().filter(|change| change.kind != ChangeKind::Kept);
    listed.map(|change| change.symbol.clone()).collect()
}

/// An error in the words of `hotpatch-rs`.
fn refusal(path: &Path, error: Error) -> HotpatchError {
    match error.code {
        Code::NoManifest => HotpatchError::MissingExport { symbol: "HOTPATCH_MODULE_V1", source: error },
        Code::Abi => abi_mismatch(&error).unwrap_or_else(|| HotpatchError::InvalidModule(error.to_string())),
        Code::Manifest => HotpatchError::InvalidModule(error.to_string()),
        Code::OnLoad => HotpatchError::LifecycleFailed {
            status: number_after(&error.found, "status ").and_then(|status| i32::try_from(status).ok()).unwrap_or(-1),
            module: error.module.clone().unwrap_or_default(),
            hook: "on_load",
        },
        _ => HotpatchError::LibraryLoad { path: path.display().to_string(), source: error },
    }
}

/// Magic and version out of the text of what was found; none when only the struct size differs.
fn abi_mismatch(error: &Error) -> Option<HotpatchError> {
    let got_magic = number_after(&error.found, "magic ").map_or(Some(ABI_MAGIC_V1), |it| u32::try_from(it).ok())?;
    let got_version =
        number_after(&error.found, "version ").map_or(Some(ABI_VERSION_V1), |it| u16::try_from(it).ok())?;
    if (got_magic, got_version) == (ABI_MAGIC_V1, ABI_VERSION_V1) {
        return None;
    }
    Some(HotpatchError::AbiMismatch {
        expected_magic: ABI_MAGIC_V1,
        got_magic,
        expected_version: ABI_VERSION_V1,
        got_version,
    })
}

/// The number, decimal or 0x hexadecimal, that follows `label`.
fn number_after(text: &str, label: &str) -> Option<i64> {
    let rest = &text[text.find(label)? + label.len()..];
    let word = rest.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').next()?;
    match word.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

/// The names and versions that `each` visits.
fn collect(each: impl FnOnce(ffi::Visit, *mut c_void)) -> Vec<(String, u64)> {
    unsafe extern "C" fn visit(list: *mut c_void, name: *const core::ffi::c_char, version: u64) {
        // SAFETY: `list` is the vector below, and nobody else uses it meanwhile; names are zero-terminated.
        unsafe {
            let name = core::ffi::CStr::from_ptr(name).to_string_lossy().into_owned();
            (*list.cast::<Vec<(String, u64)>>()).push((name, version));
        }
    }
    let mut list = Vec::new();
    each(visit, (&mut list as *mut Vec<(String, u64)>).cast());
    list
}
