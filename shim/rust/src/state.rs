//! State that modules may migrate.

use core::ffi::c_void;
use core::fmt;
use core::marker::PhantomData;
use core::mem::size_of;
use core::ptr::{null_mut, NonNull};
use std::alloc::{alloc_zeroed, dealloc, Layout as Room};

use crate::error::Error;
use crate::layout::{name_of, Alone, Layout};
use crate::{ffi, report};

/// An object of the host whose layout modules may change by a migration ([`migrations!`](crate::migrations)).
///
/// Slots get it by [`Slot::call_on`](crate::Slot::call_on). What it looks like is then the affair of whichever code runs:
/// the shim refuses to run code on another layout than that which it was compiled for.
///
/// ```
/// use hotreload::{Slot, State};
///
/// hotreload::layout! {
///     #[derive(Clone, Copy, Default)]
///     pub struct Counter { total: i64 }
/// }
///
/// fn add(counter: &mut Counter, amount: &i64, total: &mut i64) -> i32 {
///     counter.total += amount;
///     *total = counter.total;
///     0
/// }
///
/// static ADD: Slot<Counter, i64, i64> = Slot::new(c"doc.state.add", add).described();
///
/// ADD.declare()?;
/// // SAFETY: this thread alone uses the state, and loads nothing during a call.
/// let mut counter = unsafe { State::register(Counter::default())? };
/// let mut total = 0;
/// ADD.call_on(&mut counter, &5, &mut total);
/// assert_eq!(total, 5);
/// # Ok::<(), hotreload::Error>(())
/// ```
///
/// A type that is not described cannot be registered:
///
/// ```compile_fail
/// # use hotreload::State;
/// #[derive(Clone, Copy)]
/// struct Counter { total: i64 }
/// let counter = unsafe { State::register(Counter { total: 0 }) };
/// ```
pub struct State<T> {
    /// On the heap: the shim keeps its address.
    memory: NonNull<Memory>,
    kind: PhantomData<T>,
}

// SAFETY: the object is its owner's; migrations happen where register's promise lets them.
unsafe impl<T: Send> Send for State<T> {}

struct Memory {
    object: *mut u8,
    room: Room,
    /// What the host's own type needs: a guard that copies so much never reads past a smaller object's end.
    least: usize,
}

impl<T: Layout + Copy> State<T> {
    /// Moves `value` to where modules may migrate it, and registers it.
    ///
    /// # Errors
    /// [`Code::Usage`](crate::Code::Usage) when the type has been described in another way,
    /// [`Code::Memory`](crate::Code::Memory).
    ///
    /// # Safety
    /// State is migrated at a safe point ([`safepoint`](crate::safepoint), or [`poll`](crate::poll)), and by this
    /// program's own [`load`](crate::load), [`rollback`](crate::rollback) and transactions: none of these happens while a
    /// slot is being called on this state.
    pub unsafe fn register(value: T) -> Result<Self, Error> {
        const { assert!(size_of::<T>() > 0, "there is nothing to migrate") };
        // SAFETY: a description that lives on.
        report::failing(|failure| unsafe { ffi::hr_declare_layout(null_mut(), Alone::<T>::LAYOUT, failure) })?;
        let room = Room::new::<T>();
        // SAFETY: its size is not 0.
        let object = unsafe { alloc_zeroed(room) };
        if object.is_null() {
            std::alloc::handle_alloc_error(room);
        }
        // SAFETY: room for a T.
        unsafe { object.cast::<T>().write(value) };
        let memory = NonNull::from(Box::leak(Box::new(Memory { object, room, least: size_of::<T>() })));
        let state = Self { memory, kind: PhantomData };
        let raw = ffi::State {
            kind: name_of::<T>(),
            state: object.cast(),
            size: size_of::<T>() as u64,
            resize: Some(resize),
            owner: memory.as_ptr().cast(),
            reserved: 0,
        };
        // SAFETY: all of it lives until drop unregisters it.
        report::check(unsafe { ffi::hr_state_register(null_mut(), &raw) })?;
        Ok(state)
    }
}

impl<T> State<T> {
    /// Where the object is now; it moves when it is migrated, and is a `T` only as long as no module has done that.
    pub fn as_ptr(&self) -> *mut T {
        // SAFETY: register's promise: no migration runs now.
        unsafe { (*self.memory.as_ptr()).object.cast() }
    }
}

impl<T> Drop for State<T> {
    /// Modules migrate it no more. The value has no destructor: it is `Copy`.
    fn drop(&mut self) {
        // SAFETY: made by register, and nobody's any more once it is not registered.
        unsafe {
            ffi::hr_state_unregister(null_mut(), self.as_ptr().cast());
            let memory = Box::from_raw(self.memory.as_ptr());
            dealloc(memory.object, memory.room);
        }
    }
}

impl<T> fmt::Debug for State<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("State").field("at", &self.as_ptr()).finish()
    }
}

/// Another room for the object; what it held is copied by the shim. Null: there is none.
unsafe extern "C" fn resize(owner: *mut c_void, _state: *mut c_void, size: u64, align: u32) -> *mut c_void {
    // SAFETY: register gave it.
    let memory = unsafe { &mut *owner.cast::<Memory>() };
    let size = usize::try_from(size).unwrap_or(usize::MAX).max(memory.least);
    let Ok(room) = Room::from_size_align(size, align as usize) else { return null_mut() };
    // SAFETY: not of size 0.
    let object = unsafe { alloc_zeroed(room) };
    if !object.is_null() {
        // SAFETY: the old room, which nobody uses any more.
        unsafe { dealloc(memory.object, memory.room) };
        (memory.object, memory.room) = (object, room);
    }
    object.cast()
}
