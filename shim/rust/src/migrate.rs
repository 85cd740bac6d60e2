//! Migrations: how state that a host registered in an old layout becomes state in a new one (the mirror of
//! `HOTPATCH_MIGRATE_V1` in `layout.h`).

use core::ffi::{c_char, c_void};
use core::mem::size_of;

use crate::layout::{name_of, Alone, Layout, LayoutV1};
use crate::patch::{assert_no_data, conjure, status_of};

/// "HPG1", read as a big-endian word.
const MAGIC: u32 = 0x4850_4731;

/// `hr_migration_v1`.
#[repr(C)]
pub struct MigrationV1 {
    kind: *const c_char,
    from: &'static LayoutV1,
    to: &'static LayoutV1,
    migrate: unsafe extern "C" fn(*mut c_void, *const c_void, *mut c_void) -> i32,
}

/// `hr_migrate_v1`.
#[repr(C)]
pub struct MigrateV1 {
    magic: u32,
    version: u16,
    struct_size: u16,
    migration_count: u32,
    reserved: u32,
    migrations: *const MigrationV1,
}

// SAFETY: migrations are only ever read, and so is what they point to.
unsafe impl Sync for MigrationV1 {}
// SAFETY: as above.
unsafe impl Sync for MigrateV1 {}

const _: () = assert!(size_of::<MigrationV1>() == 32 && size_of::<MigrateV1>() == 24);

impl MigrateV1 {
    /// For the macro.
    pub const fn new(migrations: &'static [MigrationV1]) -> Self {
        Self {
            magic: MAGIC,
            version: 1,
            struct_size: size_of::<Self>() as u16,
            migration_count: migrations.len() as u32,
            reserved: 0,
            migrations: migrations.as_ptr(),
        }
    }
}

/// One migration. For [`migrations!`](crate::migrations).
pub const fn migration<A, B, F>(_function: F) -> MigrationV1
where
    A: Layout + Copy,
    B: Layout + Copy,
    F: Fn(&A) -> Result<B, i32> + Copy + Send + Sync + 'static,
{
    assert_no_data::<F>();
    const { assert!(same(A::SHAPE.base, B::SHAPE.base), "both layouts are of one name: #[layout(name = \"...\")]") };
    MigrationV1 { kind: name_of::<B>(), from: Alone::<A>::LAYOUT, to: Alone::<B>::LAYOUT, migrate: enter::<A, B, F> }
}

const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

unsafe extern "C" fn enter<A, B, F: Fn(&A) -> Result<B, i32> + Copy>(
    _host_state: *mut c_void,
    from: *const c_void,
    to: *mut c_void,
) -> i32 {
    // SAFETY: migration took a value of F and checked its size.
    let function = unsafe { conjure::<F>() };
    status_of(|| {
        // SAFETY: the shim gives a copy of an object in the layout of A.
        match function(unsafe { &*from.cast::<A>() }) {
            Ok(made) => {
                // SAFETY: the shim gives room for a B, aligned.
                unsafe { to.cast::<B>().write(made) };
                0
            }
            Err(0) => -1, // it would claim that there is a B
            Err(status) => status,
        }
    })
}

/// Exports how a module brings state that the host registered (`State` in Rust, `hr_state_register` in C) from
/// one layout to another: functions `fn(&Old) -> Result<New, i32>`, in each direction that there is.
///
/// The types are described under one name, and are `Copy`: an object moves byte by byte. A function that returns an
/// error, or panics, refuses the module; state and code stay what they were.
///
/// ```
/// hotreload::layout! {
///     /// As hosts know it.
///     #[derive(Clone, Copy)]
///     #[layout(name = "Counter")]
///     pub struct OldCounter { total: i64 }
///
///     #[derive(Clone, Copy)]
///     pub struct Counter { calls: u64, total: i64 }
/// }
///
/// fn add(counter: &mut Counter, amount: &i64, _: &mut ()) -> i32 {
///     counter.calls += 1;
///     counter.total += amount;
///     0
/// }
///
/// fn forth(old: &OldCounter) -> Result<Counter, i32> { Ok(Counter { calls: 0, total: old.total }) }
/// fn back(new: &Counter) -> Result<OldCounter, i32> { Ok(OldCounter { total: new.total }) }
///
/// hotreload::patch_module!("counter", 2, [described("counter.add", add)]);
/// hotreload::migrations!(forth, back);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! migrations {
    ($($function:expr),+ $(,)?) => {
        #[doc(hidden)]
        static HOTPATCH_MIGRATIONS: &[$crate::__patch::MigrationV1] = &[$($crate::__patch::migration($function)),+];

        #[doc(hidden)]
        #[allow(unsafe_code)]
        #[used]
        #[no_mangle]
        pub static HOTPATCH_MIGRATE_V1: $crate::__patch::MigrateV1 =
            $crate::__patch::MigrateV1::new(HOTPATCH_MIGRATIONS);
    };
}
