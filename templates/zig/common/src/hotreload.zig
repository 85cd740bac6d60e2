//! hotreload's C interface as far as it is used here: hotreload/abi.h and hotreload/hotreload.h say what it means.

const std = @import("std");
const layouts = @import("layout.zig");

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

/// One function of a module, with what it takes.
pub const Patch = struct { entry: Entry, takes: layouts.Takes };

/// An implementation for a slot: `fn (*State, *const Input, *Output) i32`, `void` where there is none; 0 is success.
pub fn patch(comptime symbol: [*:0]const u8, comptime function: anytype) Patch {
    const Typed = Types(@TypeOf(function));
    return .{
        .entry = .{ .name = symbol, .func = Typed.opaque_(function) },
        .takes = Typed.takes(symbol),
    };
}

/// What a module exports as HOTPATCH_MODULE_V1.
pub fn module(comptime name: [*:0]const u8, comptime version: u64, comptime patches: []const Patch) Module {
    const entries = struct {
        const all = blk: {
            var made: [patches.len]Entry = undefined;
            for (patches, 0..) |each, i| made[i] = each.entry;
            break :blk made;
        };
    };
    return .{ .module_version = version, .name = name, .entry_count = patches.len, .entries = &entries.all };
}

/// What a module exports as HOTPATCH_LAYOUT_V1: a host with other structs refuses it.
pub fn layout(comptime patches: []const Patch) layouts.Layout {
    const entries = struct {
        const all = blk: {
            var made: [patches.len]layouts.Takes = undefined;
            for (patches, 0..) |each, i| made[i] = each.takes;
            break :blk made;
        };
    };
    return .{ .entry_count = patches.len, .entries = &entries.all };
}

/// A named patch point of a host, with the types of its fallback.
pub fn slot(comptime symbol: [*:0]const u8, comptime fallback: anytype) Slot(@TypeOf(fallback)) {
    const Typed = Types(@TypeOf(fallback));
    return .{ .raw = .{ .symbol = symbol, .fallback = Typed.opaque_(fallback) } };
}

pub fn Slot(comptime Function: type) type {
    return struct {
        raw: RawSlot,

        const Self = @This();
        const Typed = Types(Function);

        /// Makes it known, with its fallback as version 0 and what it takes.
        pub fn declare(self: *Self) !void {
            const entries = [_]layouts.Takes{Typed.takes(self.raw.symbol)};
            const told: layouts.Layout = .{ .entry_count = entries.len, .entries = &entries };
            if (hr_declare_layout(null, &told, null) != 0) return error.NotDescribed;
            if (hr_declare(null, &self.raw) != 0) return error.NotDeclared;
        }

        /// Calls what runs in it now; the implementation's status.
        pub fn call(self: *Self, state: *Typed.State, input: *const Typed.Input, output: *Typed.Output) i32 {
            return hr_call_slot(&self.raw, pointer(state), pointer(input), pointer(output));
        }
    };
}

const RawSlot = extern struct {
    symbol: [*:0]const u8,
    fallback: ?PatchFn,
    index: u32 = 0,
    born: u32 = 0,
};

fn pointer(to: anytype) ?*anyopaque {
    return if (std.meta.Child(@TypeOf(to)) == void) null else @ptrCast(@constCast(to));
}

/// The types that a slot's function takes.
fn Types(comptime Function: type) type {
    return struct {
        const Arguments = std.meta.ArgsTuple(Function);
        const State = std.meta.Child(@FieldType(Arguments, "0"));
        const Input = std.meta.Child(@FieldType(Arguments, "1"));
        const Output = std.meta.Child(@FieldType(Arguments, "2"));

        fn takes(symbol: [*:0]const u8) layouts.Takes {
            return .{ .symbol = symbol, .state = layouts.of(State), .input = layouts.of(Input), .output = layouts.of(Output) };
        }

        /// The function as the C interface calls it.
        fn opaque_(comptime function: Function) PatchFn {
            return struct {
                fn call(state: ?*anyopaque, input: ?*const anyopaque, output: ?*anyopaque) callconv(.c) i32 {
                    return function(typed(*State, state), typed(*const Input, input), typed(*Output, output));
                }
            }.call;
        }

        fn typed(comptime Pointer: type, given: ?*const anyopaque) Pointer {
            if (std.meta.Child(Pointer) == void) return @constCast(&{});
            return @ptrCast(@alignCast(@constCast(given.?)));
        }
    };
}

/// Lets `hotreload` find this process under a name; `state` is what modules' hooks receive.
pub fn serve(name: [*:0]const u8, state: ?*anyopaque) !void {
    hr_set_context(null, state);
    if (hr_serve(null, name, 0, null) != 0) return error.NotServed;
}

extern fn hr_declare(runtime: ?*anyopaque, slot: *RawSlot) c_int;
extern fn hr_declare_layout(runtime: ?*anyopaque, told: *const layouts.Layout, failure: ?*anyopaque) c_int;
extern fn hr_call_slot(slot: *RawSlot, state: ?*anyopaque, input: ?*const anyopaque, output: ?*anyopaque) i32;
extern fn hr_set_context(runtime: ?*anyopaque, state: ?*anyopaque) void;
extern fn hr_serve(runtime: ?*anyopaque, name: [*:0]const u8, flags: u32, failure: ?*anyopaque) c_int;
