//! What one module's load, rejection or rollback did, as values of Rust.

use core::mem::MaybeUninit;
use core::ptr::{addr_of, null};
use std::ffi::{CStr, CString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Code, Error, Refusal};
use crate::ffi;

/// What a commit did to a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It runs the module's function now.
    Swapped,
    /// The same, and no code of the host has declared the slot: a typo in its symbol?
    Undeclared,
    /// The module does not list it any more: it keeps its implementation.
    Kept,
}

/// One slot's part of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The slot's symbol.
    pub symbol: String,
    /// Its version before; 0 is the fallback.
    pub from: u64,
    /// And after.
    pub to: u64,
    /// What was done to it.
    pub kind: ChangeKind,
}

/// The time that each step of a load took; zero for those that were not reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Steps {
    /// The private copy.
    pub stage: Duration,
    /// The check of its bytes.
    pub preflight: Duration,
    /// The check of shared structs.
    pub layout: Duration,
    /// The search for the same content.
    pub same: Duration,
    /// `dlopen`.
    pub open: Duration,
    /// The second check of the manifest.
    pub check: Duration,
    /// The module's `on_load`.
    pub on_load: Duration,
    /// The swap.
    pub commit: Duration,
    /// The trial run, where hosts are asked for one.
    pub trial: Duration,
    /// All of it.
    pub total: Duration,
}

/// What preflight remarked on a module that it accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Warning {
    /// `dlclose` would do nothing: the library is marked NODELETE.
    NoDelete,
    /// `dlclose` would do nothing: it defines a unique symbol.
    Unique,
    /// `dlclose` may do nothing: it registers thread-local destructors.
    TlsDestructor,
    /// It exports symbols that another library may replace: link with `-Bsymbolic`.
    Interposable,
    /// It asks for an executable stack.
    ExecutableStack,
    /// It has no build id.
    NoBuildId,
}

const WARNINGS: [(u32, Warning); 6] = [
    (1, Warning::NoDelete),
    (2, Warning::Unique),
    (4, Warning::TlsDestructor),
    (8, Warning::Interposable),
    (16, Warning::ExecutableStack),
    (32, Warning::NoBuildId),
];

/// What a load or a rollback did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The name in the module's manifest; empty when a rollback returned to the fallback.
    pub module: String,
    /// The version in the module's manifest.
    pub version: u64,
    /// Lower case hexadecimal, or empty.
    pub build_id: String,
    /// Commits so far, this one included.
    pub generation: u64,
    /// True when this very content was live already: nothing was swapped.
    pub same: bool,
    /// The build output.
    pub path: PathBuf,
    /// The private copy of it that runs.
    pub staged: PathBuf,
    /// What became of each slot.
    pub changes: Vec<Change>,
    /// What each step took.
    pub steps: Steps,
    /// Remarks.
    pub warnings: Vec<Warning>,
}

/// A report of C, freed with its owner.
pub(crate) struct RawReport(*mut ffi::Report);

impl RawReport {
    /// # Safety
    /// `report` is null or a report of the shim that nobody else frees.
    pub(crate) unsafe fn new(report: *mut ffi::Report) -> Self {
        Self(report)
    }

    /// Splits it into success and refusal; `status` decides where C made no report.
    pub(crate) fn into_result(self, status: i32, path: Option<&Path>) -> Result<Report, Error> {
        if self.0.is_null() {
            return Err(error_of_status(status, path));
        }
        // SAFETY: a report is valid until self is dropped.
        let status = unsafe { (*self.0).status };
        match status {
            ffi::HR_OK | ffi::HR_SAME => Ok(self.report()),
            _ => Err(self.error()),
        }
    }

    fn report(&self) -> Report {
        // SAFETY: as above. Places are read one by one: a reference to the whole would not cover the changes behind it.
        unsafe {
            let raw = self.0;
            Report {
                module: text(&(*raw).module),
                version: (*raw).module_version,
                build_id: text(&(*raw).build_id),
                generation: (*raw).generation,
                same: (*raw).status == ffi::HR_SAME,
                path: path_of(&(*raw).path),
                staged: path_of(&(*raw).staged),
                changes: changes(raw),
                steps: steps(&(*raw).us),
                warnings: warnings((*raw).warnings),
            }
        }
    }

    fn error(&self) -> Error {
        // SAFETY: a report is valid until self is dropped.
        let (failure, module, path) =
            unsafe { (&(*self.0).failure, text(&(*self.0).module), path_of(&(*self.0).path)) };
        Refusal {
            module: (!module.is_empty()).then_some(module),
            path: (!path.as_os_str().is_empty()).then_some(path),
            ..refusal(failure)
        }
        .into()
    }
}

impl Drop for RawReport {
    fn drop(&mut self) {
        // SAFETY: new's promise; null is allowed.
        unsafe { ffi::hr_report_free(self.0) }
    }
}

/// The failure that `fill` returns and describes, or success.
pub(crate) fn failing(fill: impl FnOnce(*mut ffi::Failure) -> i32) -> Result<(), Error> {
    let mut failure = MaybeUninit::<ffi::Failure>::zeroed();
    let status = fill(failure.as_mut_ptr());
    if status == ffi::HR_OK {
        return Ok(());
    }
    // SAFETY: all zeros are a valid hr_failure, and C may have written a better one.
    let failure = unsafe { failure.assume_init_ref() };
    if failure.status == ffi::HR_OK {
        return Err(error_of_status(status, None));
    }
    Err(refusal(failure).into())
}

/// `Ok` for HR_OK, else what the status itself says.
pub(crate) fn check(status: i32) -> Result<(), Error> {
    match status {
        ffi::HR_OK => Ok(()),
        _ => Err(error_of_status(status, None)),
    }
}

pub(crate) fn error_of_status(status: i32, path: Option<&Path>) -> Error {
    // SAFETY: both return static strings for any number.
    let (reason, fix) = unsafe { (static_text(ffi::hr_status_text(status)), static_text(ffi::hr_status_fix(status))) };
    Refusal { path: path.map(Path::to_path_buf), ..Refusal::new(Code::from_status(status), reason, fix) }.into()
}

/// A name or path for C.
pub(crate) fn c_string(bytes: &[u8], what: &str) -> Result<CString, Error> {
    CString::new(bytes)
        .map_err(|_| Error::new(Code::Usage, format!("{what} contains a zero byte"), "remove the zero byte"))
}

/// The symbols that a module on disk lists, in its order; empty when it is refused. Runs none of its code.
pub(crate) fn symbols_of_file(path: &Path) -> Vec<String> {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = c_string(path.as_os_str().as_bytes(), "the path") else { return Vec::new() };
    let mut failure = MaybeUninit::<ffi::Failure>::zeroed();
    let mut manifest: *mut ffi::Manifest = core::ptr::null_mut();
    // SAFETY: the pointers are valid; the manifest is freed below, once.
    unsafe {
        if ffi::hr_inspect(path.as_ptr(), failure.as_mut_ptr(), &mut manifest) != ffi::HR_OK || manifest.is_null() {
            return Vec::new();
        }
        let entries = addr_of!((*manifest).entries).cast::<ffi::ManifestEntry>();
        let symbols = (0..(*manifest).entry_count as usize).map(|i| text(&(*entries.add(i)).name)).collect();
        ffi::hr_manifest_free(manifest);
        symbols
    }
}

/// `path`, or null for none, as C wants it.
pub(crate) fn pointer(text: &Option<CString>) -> *const core::ffi::c_char {
    text.as_ref().map_or(null(), |text| text.as_ptr())
}

fn refusal(failure: &ffi::Failure) -> Refusal {
    Refusal {
        code: Code::from_status(failure.status),
        reason: text(&failure.reason),
        found: text(&failure.found),
        expected: text(&failure.expected),
        fix: text(&failure.fix),
        path: None,
        module: None,
    }
}

/// # Safety
/// `raw` is a valid report.
unsafe fn changes(raw: *const ffi::Report) -> Vec<Change> {
    // SAFETY: change_count changes follow the report.
    unsafe {
        let first = addr_of!((*raw).changes).cast::<ffi::Change>();
        (0..(*raw).change_count as usize).map(|i| change(&*first.add(i))).collect()
    }
}

fn change(raw: &ffi::Change) -> Change {
    let kind = match raw.kind {
        ffi::HR_CHANGE_SWAPPED => ChangeKind::Swapped,
        ffi::HR_CHANGE_UNDECLARED => ChangeKind::Undeclared,
        _ => ChangeKind::Kept,
    };
    Change { symbol: text(&raw.symbol), from: raw.from, to: raw.to, kind }
}

fn steps(us: &[u64; ffi::HR_STEPS]) -> Steps {
    let [stage, preflight, layout, same, open, check, on_load, commit, trial, total] = us.map(Duration::from_micros);
    Steps { stage, preflight, layout, same, open, check, on_load, commit, trial, total }
}

fn warnings(bits: u32) -> Vec<Warning> {
    WARNINGS.iter().filter(|(bit, _)| bits & bit != 0).map(|&(_, warning)| warning).collect()
}

/// The bytes before the first zero.
fn bytes(field: &[u8]) -> &[u8] {
    CStr::from_bytes_until_nul(field).map_or(field, CStr::to_bytes)
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(bytes(field)).into_owned()
}

fn path_of(field: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes(field)))
}

/// # Safety
/// `text` is a static string.
pub(crate) unsafe fn static_text(text: *const core::ffi::c_char) -> String {
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
