//! hotreload's C interface as far as it is used here: hotreload/abi.h and hotreload/hotreload.h say what it means.

const std = @import("std");

/// For modules: a failed safety check says what failed, and traps. The usual handler, which prints a stack trace, would
/// take most of the time of every rebuild.
pub const panic = std.debug.FullPanic(trap);

fn trap(message: []const u8, _: ?usize) noreturn {
    _ = std.os.linux.write(2, message.ptr, message.len);
    @trap();
}

/// A slot's implementation: the host's state, the input and the output; 0 is success.
pub const PatchFn = *const fn (state: ?*anyopaque, input: ?*const anyopaque, output: ?*anyopaque) callconv(.c) i32;
pub const LifecycleFn = *const fn (state: ?*anyopaque) callconv(.c) i32;

pub const Entry = extern struct {
    name: [*:0]const u8,
    func: PatchFn,
    flags: u32 = 0,
    reserved: u32 = 0,
};

/// What a module exports as HOTPATCH_MODULE_V1.
pub const Module = extern struct {
    abi_magic: u32 = 0x48505431,
    abi_version: u16 = 1,
    struct_size: u16 = @sizeOf(Module),
    module_version: u64,
    name: [*:0]const u8,
    entry_count: u32,
    reserved: u32 = 0,
    entries: [*]const Entry,
    on_load: ?LifecycleFn = null,
    on_unload: ?LifecycleFn = null,
};

/// A named patch point of a host.
pub const Slot = extern struct {
    symbol: [*:0]const u8,
    fallback: ?PatchFn,
    index: u32 = 0,
    born: u32 = 0,

    /// Makes it known, with its fallback as version 0.
    pub fn declare(self: *Slot) !void {
        if (hr_declare(null, self) != 0) return error.NotDeclared;
    }

    /// Calls what runs in it now; the implementation's status.
    pub fn call(self: *Slot, state: ?*anyopaque, input: ?*const anyopaque, output: ?*anyopaque) i32 {
        return hr_call_slot(self, state, input, output);
    }
};

/// Lets `hotreload` find this process under a name; `state` is what modules' hooks receive.
pub fn serve(name: [*:0]const u8, state: ?*anyopaque) !void {
    hr_set_context(null, state);
    if (hr_serve(null, name, 0, null) != 0) return error.NotServed;
}

extern fn hr_declare(runtime: ?*anyopaque, slot: *Slot) c_int;
extern fn hr_call_slot(slot: *Slot, state: ?*anyopaque, input: ?*const anyopaque, output: ?*anyopaque) i32;
extern fn hr_set_context(runtime: ?*anyopaque, state: ?*anyopaque) void;
extern fn hr_serve(runtime: ?*anyopaque, name: [*:0]const u8, flags: u32, failure: ?*anyopaque) c_int;
