/* Panics in Rust, in a function with the C interface. */
#![crate_type = "cdylib"]

use std::ffi::{c_char, c_void};

#[repr(C)]
pub struct Entry {
    name: *const c_char,
    func: extern "C" fn(*mut c_void, *const c_void, *mut c_void) -> i32,
    flags: u32,
    reserved: u32,
}

#[repr(C)]
pub struct Module {
    magic: u32,
    version: u16,
    size: u16,
    module_version: u64,
    name: *const c_char,
    entry_count: u32,
    reserved: u32,
    entries: *const Entry,
    on_load: usize,
    on_unload: usize,
}

unsafe impl Sync for Entry {}
unsafe impl Sync for Module {}

extern "C" fn step(_: *mut c_void, _: *const c_void, _: *mut c_void) -> i32 {
    let empty: Vec<i32> = Vec::new();
    empty[std::hint::black_box(1)]
}

static ENTRIES: [Entry; 1] = [Entry { name: c"bad.step".as_ptr(), func: step, flags: 0, reserved: 0 }];

#[no_mangle]
pub static HOTPATCH_MODULE_V1: Module = Module {
    magic: 0x48505431,
    version: 1,
    size: 56,
    module_version: 1,
    name: c"bad".as_ptr(),
    entry_count: 1,
    reserved: 0,
    entries: &ENTRIES as *const Entry,
    on_load: 0,
    on_unload: 0,
};

#[cfg(cr_guest)]
#[no_mangle]
pub extern "C" fn cr_main(_: *mut c_void, operation: i32) -> i32 {
    if operation != 1 {
        return 0;
    }
    step(std::ptr::null_mut(), std::ptr::null(), std::ptr::null_mut())
}
