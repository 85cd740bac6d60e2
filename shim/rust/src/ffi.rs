//! The mirror of the C headers: types, their layouts asserted (here and, in C, in `layout.c`), and prototypes.
//!
//! Text and comments of the headers are not repeated; they are the reference.

use core::ffi::{c_char, c_void};
use core::mem::{offset_of, size_of};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64};

use crate::abi::PatchFn;
#[cfg(not(feature = "off"))]
use crate::layout::LayoutV1;

pub(crate) const HR_OK: i32 = 0;
pub(crate) const HR_SAME: i32 = 1;
pub(crate) const HR_SERVE_POLL: u32 = 1;
pub(crate) const HR_SERVE_SAFE_POINT: u32 = 2;
pub(crate) const HR_OPTION_GUARD: u32 = 1;
pub(crate) const HR_OPTION_UNLOAD: u32 = 8;
pub(crate) const HR_CHANGE_SWAPPED: u32 = 0;
pub(crate) const HR_CHANGE_UNDECLARED: u32 = 1;
pub(crate) const HR_STEPS: usize = 10;
#[cfg(not(feature = "off"))]
pub(crate) const HR_ACTIVE_FRAME: u32 = 1;

const NAME_SIZE: usize = 128;
const TEXT_SIZE: usize = 512;
const BUILD_ID_SIZE: usize = 65;
const PATH_SIZE: usize = 1024;

/// `hr_runtime`, opaque.
#[repr(C)]
pub(crate) struct Runtime {
    opaque: [u8; 0],
}

/// `hr_transaction`, opaque.
#[repr(C)]
pub(crate) struct Transaction {
    opaque: [u8; 0],
}

#[repr(C)]
pub(crate) struct Slot {
    pub symbol: *const c_char,
    pub fallback: Option<PatchFn>,
    /// Atomic: the shim publishes it while other threads call the slot (I4).
    pub index: AtomicU32,
    pub born: AtomicU32,
}

impl Slot {
    /// A slot that has not been declared; also a place for hr_find.
    pub(crate) const fn undeclared(symbol: *const c_char, fallback: Option<PatchFn>) -> Self {
        Self { symbol, fallback, index: AtomicU32::new(0), born: AtomicU32::new(0) }
    }
}

#[repr(C)]
pub(crate) struct Entry {
    pub function: PatchFn,
    /// Atomic: published entries lose flags (I1).
    pub flags: AtomicU64,
}

#[repr(C)]
pub(crate) struct Table {
    pub generation: u64,
    pub count: AtomicU32,
    pub capacity: u32,
    pub next: *mut Table,
    pub retired_at: u64,
    pub entries: [Entry; 1],
}

#[repr(C)]
pub(crate) struct Shard {
    pub epoch: AtomicU64,
    pub active: AtomicU32,
    pub thread: AtomicU32,
    pub since: AtomicU64,
    pub countdown: u32,
    pub reserved_too: u32,
    pub reserved: [u64; 4],
    pub calls: [AtomicU64; 1],
}

#[repr(C)]
pub(crate) struct DispatchState {
    pub table: AtomicPtr<Table>,
    pub epoch: AtomicU64,
    pub safe_point_wanted: AtomicU32,
    pub reserved: [u32; 11],
}

#[repr(C)]
pub(crate) struct Frame {
    pub table: *const Table,
    pub shard: *mut Shard,
    pub previous: u32,
    pub generation: u32,
}

#[repr(C)]
#[derive(Default)]
pub(crate) struct Options {
    pub flags: u32,
    pub probation_ms: u32,
    pub probation_calls: u64,
    pub hang_ms: u32,
    pub sample_every: u32,
    pub trial_ms: u32,
    pub unused: u32,
    pub budget_bytes: u64,
    pub reserved: [u64; 9],
}

#[repr(C)]
pub(crate) struct Failure {
    pub status: i32,
    pub reserved: u32,
    pub reason: [u8; TEXT_SIZE],
    pub found: [u8; TEXT_SIZE],
    pub expected: [u8; TEXT_SIZE],
    pub fix: [u8; TEXT_SIZE],
}

/// `hr_resize_fn`.
pub(crate) type Resize =
    unsafe extern "C" fn(owner: *mut c_void, state: *mut c_void, size: u64, align: u32) -> *mut c_void;

#[repr(C)]
pub(crate) struct State {
    pub kind: *const c_char,
    pub state: *mut c_void,
    pub size: u64,
    pub resize: Option<Resize>,
    pub owner: *mut c_void,
    pub reserved: u64,
}

#[repr(C)]
pub(crate) struct ManifestEntry {
    pub name: [u8; NAME_SIZE],
    pub function: u64,
    pub flags: u32,
    pub reserved: u32,
}

/// `hr_manifest`; `entry_count` entries follow it.
#[repr(C)]
pub(crate) struct Manifest {
    pub name: [u8; NAME_SIZE],
    pub version: u64,
    pub build_id: [u8; BUILD_ID_SIZE],
    pub reserved: [u8; 7],
    pub content: u64,
    pub address: u64,
    pub on_load: u64,
    pub on_unload: u64,
    pub layout_address: u64,
    pub migrate_address: u64,
    pub layout: *mut c_void,
    pub migrations: *mut c_void,
    pub migration_count: u32,
    pub unload: u32,
    pub warnings: u32,
    pub entry_count: u32,
    pub entries: [ManifestEntry; 0],
}

#[repr(C)]
pub(crate) struct Change {
    pub symbol: [u8; NAME_SIZE],
    pub from: u64,
    pub to: u64,
    pub kind: u32,
    pub slot: u32,
}

/// `hr_report`; `change_count` changes follow it.
#[repr(C)]
pub(crate) struct Report {
    pub size: u32,
    pub status: i32,
    pub generation: u64,
    pub module: [u8; NAME_SIZE],
    pub module_version: u64,
    pub build_id: [u8; BUILD_ID_SIZE],
    pub reserved: [u8; 7],
    pub content: u64,
    pub path: [u8; PATH_SIZE],
    pub staged: [u8; PATH_SIZE],
    pub us: [u64; HR_STEPS],
    pub warnings: u32,
    pub change_count: u32,
    pub failure: Failure,
    pub changes: [Change; 0],
}

const _: () = {
    assert!(size_of::<Slot>() == 24 && offset_of!(Slot, index) == 16 && offset_of!(Slot, born) == 20);
    assert!(size_of::<Entry>() == 16);
    assert!(offset_of!(Table, count) == 8 && offset_of!(Table, entries) == 32);
    assert!(offset_of!(Shard, active) == 8 && offset_of!(Shard, calls) == 64);
    assert!(size_of::<DispatchState>() == 64 && offset_of!(DispatchState, epoch) == 8);
    assert!(offset_of!(DispatchState, safe_point_wanted) == 16);
    assert!(size_of::<Frame>() == 24 && offset_of!(Frame, shard) == 8);
    assert!(size_of::<Options>() == 112 && offset_of!(Options, budget_bytes) == 32);
    assert!(size_of::<Failure>() == 2056 && offset_of!(Failure, fix) == 1544);
    assert!(size_of::<State>() == 48 && offset_of!(State, owner) == 32);
    assert!(size_of::<ManifestEntry>() == 144);
    assert!(size_of::<Manifest>() == 288 && offset_of!(Manifest, entry_count) == 284);
    assert!(size_of::<Change>() == 152 && offset_of!(Change, kind) == 144);
    assert!(size_of::<Report>() == 4424 && offset_of!(Report, content) == 224 && offset_of!(Report, path) == 232);
    assert!(offset_of!(Report, us) == 2280 && offset_of!(Report, failure) == 2368);
};

/// A function that `hr_each_symbol` and `hr_each_module` call with a name and a version.
pub(crate) type Visit = unsafe extern "C" fn(data: *mut c_void, name: *const c_char, version: u64);

#[cfg(feature = "off")]
pub(crate) use crate::off::*;

#[cfg(not(feature = "off"))]
extern "C" {
    pub(crate) static hr_dispatch: DispatchState;

    pub(crate) fn hr_version() -> *const c_char;
    pub(crate) fn hr_status_text(status: i32) -> *const c_char;
    pub(crate) fn hr_status_fix(status: i32) -> *const c_char;

    pub(crate) fn hr_configure(slots: u32) -> i32;
    pub(crate) fn hr_set_options(options: *const Options) -> i32;
    pub(crate) fn hr_runtime_new(runtime: *mut *mut Runtime) -> i32;
    pub(crate) fn hr_runtime_free(runtime: *mut Runtime);
    pub(crate) fn hr_set_context(runtime: *mut Runtime, host_state: *mut c_void);
    pub(crate) fn hr_generation(runtime: *mut Runtime) -> u64;

    pub(crate) fn hr_declare(runtime: *mut Runtime, slot: *const Slot) -> i32;
    pub(crate) fn hr_declare_layout(runtime: *mut Runtime, layout: *const LayoutV1, failure: *mut Failure) -> i32;
    pub(crate) fn hr_state_register(runtime: *mut Runtime, state: *const State) -> i32;
    pub(crate) fn hr_state_unregister(runtime: *mut Runtime, state: *const c_void);
    pub(crate) fn hr_guard_state(slot: *const Slot, size: u32) -> i32;
    pub(crate) fn hr_find(runtime: *mut Runtime, symbol: *const c_char, slot: *mut Slot) -> i32;
    pub(crate) fn hr_each_symbol(runtime: *mut Runtime, visit: Visit, data: *mut c_void);
    pub(crate) fn hr_each_module(runtime: *mut Runtime, visit: Visit, data: *mut c_void);

    pub(crate) fn hr_load(runtime: *mut Runtime, path: *const c_char, report: *mut *mut Report) -> i32;
    pub(crate) fn hr_rollback(
        runtime: *mut Runtime,
        module: *const c_char,
        reports: *mut *mut *mut Report,
        count: *mut u32,
    ) -> i32;
    pub(crate) fn hr_prepare(
        runtime: *mut Runtime,
        paths: *const *const c_char,
        count: u32,
        reports: *mut *mut Report,
        transaction: *mut *mut Transaction,
    ) -> i32;
    pub(crate) fn hr_commit(transaction: *mut Transaction, reports: *mut *mut Report) -> i32;
    pub(crate) fn hr_abort(transaction: *mut Transaction);
    pub(crate) fn hr_report_free(report: *mut Report);
    pub(crate) fn hr_reports_free(reports: *mut *mut Report, count: u32);

    pub(crate) fn hr_serve(runtime: *mut Runtime, name: *const c_char, flags: u32, failure: *mut Failure) -> i32;
    pub(crate) fn hr_stop();
    pub(crate) fn hr_poll(timeout_ms: core::ffi::c_int) -> core::ffi::c_int;
    pub(crate) fn hr_safepoint_reached();

    pub(crate) fn hr_inspect(path: *const c_char, failure: *mut Failure, manifest: *mut *mut Manifest) -> i32;
    pub(crate) fn hr_manifest_free(manifest: *mut Manifest);

    pub(crate) fn hr_thread_attach() -> *mut Shard;
    pub(crate) fn hr_call_slot(slot: *const Slot, state: *mut c_void, input: *const c_void, output: *mut c_void)
        -> i32;
    pub(crate) fn hr_call_slow(
        slot: *const Slot,
        table: *const Table,
        index: u32,
        state: *mut c_void,
        input: *const c_void,
        output: *mut c_void,
    ) -> i32;
    pub(crate) fn hr_frame_begin_detached() -> Frame;
    pub(crate) fn hr_frame_end_detached(frame: *mut Frame);
    pub(crate) fn hr_frame_call_detached(
        frame: *mut Frame,
        slot: *const Slot,
        state: *mut c_void,
        input: *const c_void,
        output: *mut c_void,
    ) -> i32;
}
