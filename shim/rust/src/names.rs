//! A map from names to small values that is read without a lock and never shrinks.
//!
//! A slot called by name is looked up at every call. A read lock around a `HashMap` costs ten times the call on one
//! thread and thirty times on two, because all readers write to the lock; here a reader writes nothing.
//!
//! N1  A table is published with all its names: the release store of `table` is the partner of the acquire load in
//!     `get`.
//! N2  A place goes from null to an entry, or from an entry to another one of the same name; it never becomes null
//!     again.
//! N3  Tables and entries that were ever published are freed with the map alone, so that a reader may hold on to them.
//!     Tables double: all old ones together are smaller than the newest.

use core::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

const FIRST_CAPACITY: usize = 16;

struct Entry<T> {
    hash: u64,
    name: Box<str>,
    value: T,
}

struct Table<T> {
    /// A power of two, at most half of them taken: every probe meets a null.
    places: Box<[AtomicPtr<Entry<T>>]>,
}

/// What writers own. Pointers, not boxes: a box that moves would claim that nobody else reads what it holds.
struct Owned<T> {
    count: usize,
    tables: Vec<*mut Table<T>>,
    entries: Vec<*mut Entry<T>>,
}

pub(crate) struct Names<T> {
    table: AtomicPtr<Table<T>>,
    owned: Mutex<Owned<T>>,
}

// SAFETY: readers copy values of T out of entries that never change; writers take turns.
unsafe impl<T: Copy + Send + Sync> Sync for Names<T> {}
// SAFETY: the map owns what its pointers point to.
unsafe impl<T: Copy + Send + Sync> Send for Names<T> {}

impl<T: Copy> Names<T> {
    pub(crate) fn new() -> Self {
        let first = Table::with_capacity(FIRST_CAPACITY);
        let owned = Owned { count: 0, tables: vec![first], entries: Vec::new() };
        Self { table: AtomicPtr::new(first), owned: Mutex::new(owned) }
    }

    /// The value of `name`. Never waits.
    pub(crate) fn get(&self, name: &str) -> Option<T> {
        // SAFETY: N1, N3.
        let table = unsafe { &*self.table.load(Ordering::Acquire) };
        table.find(hash(name), name).map(|entry| entry.value)
    }

    /// Sets the value of `name` to what `change` makes of its present one. Writers wait for each other.
    pub(crate) fn update<E>(&self, name: &str, change: impl FnOnce(Option<T>) -> Result<T, E>) -> Result<T, E> {
        let mut owned = self.owned();
        let value = change(self.get(name))?;
        let entry = Box::into_raw(Box::new(Entry { hash: hash(name), name: name.into(), value }));
        owned.entries.push(entry);
        let table = self.with_room(&mut owned);
        if table.put(entry) {
            owned.count += 1;
        }
        Ok(value)
    }

    /// All names, sorted.
    pub(crate) fn sorted(&self) -> Vec<String> {
        // SAFETY: N1, N3.
        let table = unsafe { &*self.table.load(Ordering::Acquire) };
        let mut names: Vec<_> = table.entries().map(|entry| entry.name.to_string()).collect();
        names.sort();
        names
    }

    fn owned(&self) -> MutexGuard<'_, Owned<T>> {
        self.owned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The table, replaced by one of twice the size when half of it is taken.
    fn with_room(&self, owned: &mut Owned<T>) -> &Table<T> {
        // SAFETY: N3; writers take turns, so that nobody replaces it meanwhile.
        let table = unsafe { &*self.table.load(Ordering::Relaxed) };
        if 2 * (owned.count + 1) <= table.places.len() {
            return table;
        }
        let grown = Table::with_capacity(2 * table.places.len());
        owned.tables.push(grown);
        // SAFETY: just made; freed with the map.
        let grown_table = unsafe { &*grown };
        for place in table.places.iter().filter(|place| !place.load(Ordering::Relaxed).is_null()) {
            grown_table.put(place.load(Ordering::Relaxed));
        }
        self.table.store(grown, Ordering::Release); // N1
        grown_table
    }
}

impl<T> Drop for Names<T> {
    fn drop(&mut self) {
        let owned = self.owned.get_mut().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: made by Box::into_raw, listed once, and nobody reads any more.
        unsafe {
            owned.tables.drain(..).for_each(|table| drop(Box::from_raw(table)));
            owned.entries.drain(..).for_each(|entry| drop(Box::from_raw(entry)));
        }
    }
}

impl<T> Table<T> {
    fn with_capacity(capacity: usize) -> *mut Self {
        let places = (0..capacity).map(|_| AtomicPtr::default()).collect();
        Box::into_raw(Box::new(Self { places }))
    }

    /// The places where `hash` may be, in order; endless.
    fn probe(&self, hash: u64) -> impl Iterator<Item = &AtomicPtr<Entry<T>>> {
        // The low bits of the hash: 64-bit systems only, see lib.rs.
        let (first, mask) = (hash as usize, self.places.len() - 1);
        (0..).map(move |step: usize| &self.places[first.wrapping_add(step) & mask])
    }

    fn find(&self, hash: u64, name: &str) -> Option<&Entry<T>> {
        for place in self.probe(hash) {
            // SAFETY: null or an entry that lives as long as the map (N3); acquire: partner of the store in put.
            let entry = unsafe { place.load(Ordering::Acquire).as_ref() }?;
            if entry.hash == hash && *entry.name == *name {
                return Some(entry);
            }
        }
        None
    }

    /// Puts `entry` into its place; returns whether its name is new. For writers, in turn.
    fn put(&self, entry: *mut Entry<T>) -> bool {
        // SAFETY: entries live as long as the map (N3).
        let new = unsafe { &*entry };
        for place in self.probe(new.hash) {
            // SAFETY: as above, or null.
            let old = unsafe { place.load(Ordering::Relaxed).as_ref() };
            if old.is_none_or(|old| old.hash == new.hash && old.name == new.name) {
                place.store(entry, Ordering::Release);
                return old.is_none();
            }
        }
        unreachable!("half of the places are free")
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        // SAFETY: null or an entry that lives as long as the map (N3).
        self.places.iter().filter_map(|place| unsafe { place.load(Ordering::Acquire).as_ref() })
    }
}

/// FNV-1a: names are the program's own, so that nobody can choose them to collide, and they are short.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &Names<usize>, name: &str, value: usize) {
        names.update::<()>(name, |_| Ok(value)).unwrap();
    }

    #[test]
    fn finds_what_was_put_through_every_growth() {
        let names = Names::new();
        for value in 0..1000 {
            assert_eq!(names.get(&value.to_string()), None);
            set(&names, &value.to_string(), value);
        }
        assert!((0..1000).all(|value| names.get(&value.to_string()) == Some(value)));
        assert_eq!((names.get(""), names.sorted().len()), (None, 1000));
    }

    #[test]
    fn replaces_a_value_and_keeps_it_after_an_error() {
        let names = Names::new();
        set(&names, "a", 1);
        assert_eq!(names.update::<()>("a", |old| Ok(old.unwrap() + 1)), Ok(2));
        assert_eq!(names.update("a", |_| Err("no")), Err("no"));
        assert_eq!(names.update("b", |_| Err("no")), Err("no"));
        assert_eq!((names.get("a"), names.sorted()), (Some(2), vec!["a".to_owned()]));
    }

    #[test]
    fn names_of_one_hash_stay_apart() {
        let table = Table::<u32>::with_capacity(FIRST_CAPACITY);
        // SAFETY: freed below.
        let it = unsafe { &*table };
        let entry = |name: &str, value| Box::into_raw(Box::new(Entry { hash: 15, name: name.into(), value }));
        let made = [entry("a", 1), entry("b", 2), entry("c", 3)];
        assert!(made.iter().all(|&entry| it.put(entry)), "all are new; the probe wraps round");
        let values: Vec<_> = ["c", "b", "a"].iter().map(|name| it.find(15, name).map(|entry| entry.value)).collect();
        assert_eq!(values, [Some(3), Some(2), Some(1)]);
        assert!(it.find(15, "d").is_none());
        // SAFETY: from Box::into_raw, once.
        unsafe {
            made.into_iter().for_each(|entry| drop(Box::from_raw(entry)));
            drop(Box::from_raw(table));
        }
    }

    #[test]
    fn readers_see_every_name_that_was_there_before() {
        let names = Names::new();
        set(&names, "first", 7);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = 0;
                while last < 2000 {
                    assert_eq!(names.get("first"), Some(7));
                    if names.get(&format!("n{last}")).is_some() {
                        last += 1;
                    }
                }
            });
            for value in 0..2000 {
                set(&names, &format!("n{value}"), value);
            }
            reader.join().unwrap();
        });
    }
}
