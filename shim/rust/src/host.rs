//! What a host does once or now and then: be served, load, roll back, reach its safe point.

use core::ffi::{c_int, c_void};
use core::ptr::{null_mut, NonNull};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Mutex, TryLockError};
use std::time::Duration;

use crate::error::{Code, Error};
use crate::report::{self, RawReport, Report};
use crate::{call, ffi};

/// How a host is served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Serving {
    /// No thread of ours: requests are served when the host calls [`poll`].
    pub polled: bool,
    /// `on_load`, commits and `on_unload` wait for the host's [`safepoint`].
    pub at_safe_point: bool,
}

/// How swapped slots are guarded while they are on probation; zeros stand for the defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// The probation of a slot ends after so many calls, 100,000 by default,
    pub calls: u64,
    /// or after so long, 10 seconds by default: whichever comes first.
    pub time: Duration,
    /// A guarded call that takes longer hangs; 2 seconds by default.
    pub hang: Duration,
}

/// What is off until somebody asks for it, of the whole process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// A crash or a hang in a patch is rolled back.
    pub guard: Option<Guard>,
    /// Modules that back no slot are unmapped once nothing points into them any more.
    pub unload: bool,
    /// Modules that back no slot and take more memory than so many bytes are warned about; 0 stands for 64 MiB.
    pub budget_bytes: u64,
}

/// Replaces all options; they hold from the next swap on.
///
/// # Errors
/// [`Code::Memory`].
pub fn set_options(options: Options) -> Result<(), Error> {
    let mut raw = ffi::Options { budget_bytes: options.budget_bytes, ..ffi::Options::default() };
    if options.unload {
        raw.flags |= ffi::HR_OPTION_UNLOAD;
    }
    if let Some(guard) = options.guard {
        raw.flags |= ffi::HR_OPTION_GUARD;
        raw.probation_calls = guard.calls;
        raw.probation_ms = milliseconds(guard.time);
        raw.hang_ms = milliseconds(guard.hang);
    }
    // SAFETY: the pointer is valid; no other conditions.
    report::check(unsafe { ffi::hr_set_options(&raw) })
}

/// Rounded up: what is not 0 stays so.
fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// The version of the shim, "major.minor.patch".
pub fn version() -> String {
    // SAFETY: returns a static string.
    unsafe { report::static_text(ffi::hr_version()) }
}

/// Slots that the process can hold, 65,536 at most; for before anything else is called.
///
/// # Errors
/// [`Code::Usage`] when it is too late, or out of range.
pub fn configure(slots: u32) -> Result<(), Error> {
    // SAFETY: no conditions.
    report::check(unsafe { ffi::hr_configure(slots) })
}

/// Number of commits so far.
pub fn generation() -> u64 {
    DEFAULT.generation()
}

/// The state that the `on_load` and `on_unload` of modules receive; null for none.
///
/// # Safety
/// `state` points to what the modules' hooks expect, for as long as modules are loaded or rolled back. Hooks run on the
/// thread that loads, or on the shim's: what they do with the state must be safe beside what the host does with it
/// (hosts served with [`Serving::at_safe_point`] have that for nothing).
pub unsafe fn set_context<S>(state: *mut S) {
    DEFAULT.set_context(state.cast());
}

/// Lets `hotreload watch` find and drive this process (its owner only).
///
/// # Errors
/// [`Code::Duplicate`] when it is served already, [`Code::Usage`] for an invalid name (1 to 127 bytes),
/// [`Code::Io`], [`Code::Denied`].
///
/// # Safety
/// Modules are foreign code: whoever runs as this user can now load one. Those that are offered must have been built
/// for this host: their functions take the state, input and output types of the slots that they list.
pub unsafe fn serve(name: &str, serving: Serving) -> Result<(), Error> {
    DEFAULT.serve(name, serving)
}

/// Stops serving. Happens at exit by itself.
pub fn stop() {
    DEFAULT.stop();
}

/// Serves pending requests in this thread; waits up to `timeout` for one. Returns how many.
/// For hosts served with [`Serving::polled`]. Returns 0 at once while another thread polls.
pub fn poll(timeout: Duration) -> usize {
    static POLLING: Mutex<()> = Mutex::new(());
    let milliseconds = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: one thread at a time.
    alone(&POLLING, || unsafe { ffi::hr_poll(milliseconds) }).map_or(0, |served| usize::try_from(served).unwrap_or(0))
}

/// Where a host served with [`Serving::at_safe_point`] lets a swap happen. A load and a branch when nothing waits.
/// Not from inside a slot's implementation.
#[inline]
pub fn safepoint() {
    if call::safe_point_wanted() {
        safepoint_reached();
    }
}

#[cold]
fn safepoint_reached() {
    static REACHED: Mutex<()> = Mutex::new(());
    // SAFETY: one thread at a time.
    alone(&REACHED, || unsafe { ffi::hr_safepoint_reached() });
}

/// Runs `job` unless another thread (or this one, further out) is at it.
fn alone<R>(turn: &Mutex<()>, job: impl FnOnce() -> R) -> Option<R> {
    let _turn = match turn.try_lock() {
        Ok(turn) => turn,
        Err(TryLockError::Poisoned(turn)) => turn.into_inner(),
        Err(TryLockError::WouldBlock) => return None,
    };
    Some(job())
}

/// Loads one module: stage, preflight, open, check, `on_load`, commit, in this thread.
///
/// # Errors
/// Every code of a refused module. Nothing in the host has changed then.
///
/// # Safety
/// As [`serve`]: the module's functions take the types of the slots that it lists.
pub unsafe fn load(path: impl AsRef<Path>) -> Result<Report, Error> {
    DEFAULT.load(path.as_ref())
}

/// Commits the previous implementations again and quarantines what ran: of `module`, or of all that the newest commit
/// brought in. One report for each module taken back.
///
/// # Errors
/// [`Code::NoPrevious`] when there is nothing to take back; [`Code::SafePoint`], [`Code::Memory`].
pub fn rollback(module: Option<&str>) -> Result<Vec<Report>, Error> {
    DEFAULT.rollback(module)
}

/// Does all of a load that can be refused, for several modules, `on_load` included. All of them swap, or none does.
///
/// # Errors
/// One error for each module that was refused; [`Code::Aborted`] for those that suffer for another.
///
/// # Safety
/// As [`load`], for each of them.
pub unsafe fn prepare<P: AsRef<Path>>(paths: &[P]) -> Result<Transaction, Vec<Error>> {
    let paths = paths.iter().map(|path| path_for_c(path.as_ref())).collect::<Result<Vec<_>, _>>();
    DEFAULT.prepare(&paths.map_err(|error| vec![error])?)
}

/// Modules that are ready to be swapped in. Dropped, it takes the preparation back.
#[derive(Debug)]
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction {
    raw: NonNull<ffi::Transaction>,
    reports: Vec<*mut ffi::Report>,
}

// SAFETY: C ties a transaction to no thread; this is its only handle.
unsafe impl Send for Transaction {}

impl Transaction {
    /// Publishes all modules in one step.
    ///
    /// # Errors
    /// [`Code::SafePoint`], [`Code::Memory`]: nothing has changed, the transaction is aborted.
    pub fn commit(mut self) -> Result<Vec<Report>, Error> {
        // SAFETY: neither committed nor aborted before; drop does not run.
        let status = unsafe { ffi::hr_commit(self.raw.as_ptr(), self.reports.as_mut_ptr()) };
        let reports = std::mem::take(&mut self.reports);
        std::mem::forget(self);
        // SAFETY: the reports are ours; each is freed here, once.
        let results: Vec<_> =
            reports.into_iter().map(|raw| unsafe { RawReport::new(raw) }.into_result(status, None)).collect();
        // A refused commit is told by its reports.
        let reports = results.into_iter().collect::<Result<_, _>>()?;
        report::check(status)?;
        Ok(reports)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // SAFETY: commit forgets self, so that this is the transaction's one end; the reports are ours.
        unsafe {
            ffi::hr_abort(self.raw.as_ptr());
            for &raw in &self.reports {
                drop(RawReport::new(raw));
            }
        }
    }
}

/// A name space of slots and modules in C; null is the process's default one.
#[derive(Debug)]
pub(crate) struct Runtime(*mut ffi::Runtime);

// SAFETY: every function that takes a runtime may run concurrently with every other, serve and stop excepted (see
// SERVING) and free, which needs the owner.
unsafe impl Sync for Runtime {}
// SAFETY: as above; no thread is special to a runtime.
unsafe impl Send for Runtime {}

static DEFAULT: Runtime = Runtime(null_mut());

/// hr_serve and hr_stop must not overlap.
static SERVING: Mutex<()> = Mutex::new(());

impl Runtime {
    pub(crate) fn new() -> Result<Self, Error> {
        let mut runtime = null_mut();
        // SAFETY: a valid out-parameter.
        report::check(unsafe { ffi::hr_runtime_new(&mut runtime) })?;
        Ok(Self(runtime))
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::Runtime {
        self.0
    }

    pub(crate) fn generation(&self) -> u64 {
        // SAFETY: the runtime is valid.
        unsafe { ffi::hr_generation(self.0) }
    }

    pub(crate) fn set_context(&self, state: *mut c_void) {
        // SAFETY: the runtime is valid; the pointer is only passed on.
        unsafe { ffi::hr_set_context(self.0, state) }
    }

    pub(crate) fn serve(&self, name: &str, serving: Serving) -> Result<(), Error> {
        let name = report::c_string(name.as_bytes(), "the name")?;
        let poll = if serving.polled { ffi::HR_SERVE_POLL } else { 0 };
        let safe_point = if serving.at_safe_point { ffi::HR_SERVE_SAFE_POINT } else { 0 };
        let _turn = SERVING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: valid pointers, and the turn.
        report::failing(|failure| unsafe { ffi::hr_serve(self.0, name.as_ptr(), poll | safe_point, failure) })
    }

    pub(crate) fn stop(&self) {
        let _turn = SERVING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: the turn.
        unsafe { ffi::hr_stop() }
    }

    pub(crate) fn load(&self, path: &Path) -> Result<Report, Error> {
        let name = path_for_c(path)?;
        let mut raw = null_mut();
        // SAFETY: valid pointers; the report is ours.
        let status = unsafe { ffi::hr_load(self.0, name.as_ptr(), &mut raw) };
        // SAFETY: as above.
        unsafe { RawReport::new(raw) }.into_result(status, Some(path))
    }

    pub(crate) fn rollback(&self, module: Option<&str>) -> Result<Vec<Report>, Error> {
        let module = module.map(|name| report::c_string(name.as_bytes(), "the module's name")).transpose()?;
        let (mut raw, mut count) = (null_mut(), 0);
        // SAFETY: valid pointers.
        let status = unsafe { ffi::hr_rollback(self.0, report::pointer(&module), &mut raw, &mut count) };
        // A refused roll back is told by its report; without one (no memory) by the status.
        let list = Reports { raw, count }.take();
        if list.is_empty() {
            report::check(status)?;
        }
        list.into_iter().map(|report| report.into_result(status, None)).collect()
    }

    fn prepare(&self, paths: &[CString]) -> Result<Transaction, Vec<Error>> {
        let pointers: Vec<_> = paths.iter().map(|path| path.as_ptr()).collect();
        let mut reports = vec![null_mut(); paths.len()];
        let mut transaction = null_mut();
        let count = u32::try_from(paths.len())
            .map_err(|_| vec![Error::new(Code::Usage, "too many modules", "load fewer at once")])?;
        // SAFETY: `count` paths and places for reports; the reports are ours.
        let status =
            unsafe { ffi::hr_prepare(self.0, pointers.as_ptr(), count, reports.as_mut_ptr(), &mut transaction) };
        match NonNull::new(transaction) {
            Some(raw) if status == ffi::HR_OK => Ok(Transaction { raw, reports }),
            _ => Err(refusals(reports, status)),
        }
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if !self.0.is_null() {
            let _turn = SERVING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            // SAFETY: nobody borrows the runtime any more; it is stopped first where it is the served one.
            unsafe { ffi::hr_runtime_free(self.0) }
        }
    }
}

/// The reports' errors; the status itself where no report tells one.
fn refusals(reports: Vec<*mut ffi::Report>, status: i32) -> Vec<Error> {
    let errors: Vec<_> = reports
        .into_iter()
        .filter(|raw| !raw.is_null())
        // SAFETY: the reports are the caller's own, and freed here.
        .filter_map(|raw| unsafe { RawReport::new(raw) }.into_result(status, None).err())
        .collect();
    if errors.is_empty() {
        return vec![report::error_of_status(status, None)];
    }
    errors
}

/// An array of reports that C allocated.
struct Reports {
    raw: *mut *mut ffi::Report,
    count: u32,
}

impl Reports {
    /// The reports, each with an owner of its own; the array goes with self.
    fn take(self) -> Vec<RawReport> {
        // SAFETY: `count` reports; each is replaced by null, which hr_reports_free passes over.
        (0..self.count as usize).map(|i| unsafe { RawReport::new(self.raw.add(i).replace(null_mut())) }).collect()
    }
}

impl Drop for Reports {
    fn drop(&mut self) {
        if !self.raw.is_null() {
            // SAFETY: C's own array.
            unsafe { ffi::hr_reports_free(self.raw, self.count) }
        }
    }
}

fn path_for_c(path: &Path) -> Result<CString, Error> {
    report::c_string(path.as_os_str().as_bytes(), "the path")
}
