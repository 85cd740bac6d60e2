//! What types look like in memory, read off at compile time; hotreload/layout.h says what it is compared with. A module
//! that was built with another idea of a struct than its host is refused, field by field, before any of it runs.

const std = @import("std");

pub const Field = extern struct {
    name: [*:0]const u8,
    type: [*:0]const u8,
    nested: ?*const Type = null,
    /// Of an enum's value: the value.
    offset: u64,
    size: u64,
    number: u32 = 0,
    reserved: u32 = 0,
};

pub const Type = extern struct {
    name: [*:0]const u8,
    size: u64,
    alignment: u32,
    kind: Kind,
    flags: u32 = 0,
    field_count: u32 = 0,
    fields: ?[*]const Field = null,
};

pub const Kind = enum(u32) { structure = 1, union_ = 2, enumeration = 3, scalar = 4, none = 5 };

/// What a slot takes.
pub const Takes = extern struct {
    symbol: [*:0]const u8,
    state: *const Type,
    input: *const Type,
    output: *const Type,
};

/// What a module exports as HOTPATCH_LAYOUT_V1, and a host declares.
pub const Layout = extern struct {
    magic: u32 = 0x48504c31,
    version: u16 = 1,
    struct_size: u16 = @sizeOf(Layout),
    type_count: u32 = 0,
    entry_count: u32,
    types: ?[*]const *const Type = null,
    entries: [*]const Takes,
};

/// A type's description; of types that have no fixed layout it does not compile.
pub fn of(comptime T: type) *const Type {
    return &struct {
        const made: Type = describe(T);
    }.made;
}

fn describe(comptime T: type) Type {
    if (T == void) return .{ .name = "void", .size = 0, .alignment = 1, .kind = .none };
    const kind: Kind = switch (@typeInfo(T)) {
        .@"struct" => .structure,
        .@"union" => .union_,
        .@"enum" => .enumeration,
        else => .scalar,
    };
    const fields = if (kind == .scalar) &[_]Field{} else fieldsOf(T);
    return .{
        .name = spell(T),
        .size = @sizeOf(T),
        .alignment = @alignOf(T),
        .kind = kind,
        .field_count = fields.len,
        .fields = if (fields.len == 0) null else fields.ptr,
    };
}

fn fieldsOf(comptime T: type) []const Field {
    return &struct {
        const made = blk: {
            @setEvalBranchQuota(100_000);
            const names = std.meta.fieldNames(T);
            var all: [names.len]Field = undefined;
            for (names, 0..) |name, i| all[i] = if (@typeInfo(T) == .@"enum") value(T, name) else field(T, name);
            break :blk all;
        };
    }.made;
}

fn value(comptime T: type, comptime name: [:0]const u8) Field {
    const number: i128 = @intFromEnum(@field(T, name));
    return .{ .name = name, .type = "", .offset = @truncate(@as(u128, @bitCast(number))), .size = 0 };
}

fn field(comptime T: type, comptime name: [:0]const u8) Field {
    const F = @FieldType(T, name);
    const layout = switch (@typeInfo(T)) {
        inline .@"struct", .@"union" => |info| info.layout,
        else => unreachable,
    };
    if (layout == .auto) @compileError(spell(T) ++ " has no fixed layout: make it extern, host and modules are built apart");
    const bits = if (layout == .@"packed") std.fmt.comptimePrint(" bit {d}", .{@bitOffsetOf(T, name)}) else "";
    return .{
        .name = name,
        .type = spell(F) ++ bits,
        .nested = nested(F),
        .offset = if (@typeInfo(T) == .@"union") 0 else @offsetOf(T, name),
        .size = @sizeOf(F),
        .number = if (layout == .@"packed") 0 else numberOf(F),
    };
}

/// The description of a field's type, or of its elements'.
fn nested(comptime T: type) ?*const Type {
    return switch (@typeInfo(T)) {
        .array => |array| nested(array.child),
        .@"struct", .@"union", .@"enum" => of(T),
        else => null,
    };
}

/// A type in words: its own name without those of files, "f32[16]" for [16]f32, "State *" for a pointer, "char *" for C's
/// texts.
fn spell(comptime T: type) [:0]const u8 {
    return switch (@typeInfo(T)) {
        .array => spellArray(T, ""),
        .pointer => |pointer| (if (pointer.child == u8 and pointer.sentinel_ptr != null) "char" else spell(pointer.child)) ++ " *",
        .optional => |optional| spell(optional.child),
        .@"opaque" => "void",
        .@"struct", .@"union", .@"enum" => ownName(@typeName(T)),
        else => @typeName(T),
    };
}

fn spellArray(comptime T: type, comptime before: [:0]const u8) [:0]const u8 {
    const array = @typeInfo(T).array;
    const bounds = before ++ std.fmt.comptimePrint("[{d}]", .{array.len});
    return if (@typeInfo(array.child) == .array) spellArray(array.child, bounds) else spell(array.child) ++ bounds;
}

fn ownName(comptime whole: [:0]const u8) [:0]const u8 {
    @setEvalBranchQuota(10_000);
    const end = std.mem.indexOfScalar(u8, whole, '(') orelse whole.len;
    const start = if (std.mem.lastIndexOfScalar(u8, whole[0..end], '.')) |at| at + 1 else 0;
    return whole[start..];
}

/// HR_NUMBER_*: which number it is, whatever it is called.
fn numberOf(comptime T: type) u32 {
    return switch (@typeInfo(T)) {
        .array => |array| numberOf(array.child),
        .bool => 1,
        .float => |float| if (float.bits == 32) 11 else if (float.bits == 64) 12 else 0,
        .int => |int| if (T == c_char) 2 else switch (int.bits) {
            8, 16, 32, 64 => 3 + 2 * @as(u32, std.math.log2(int.bits / 8)) + @intFromBool(int.signedness == .unsigned),
            else => 0,
        },
        else => 0,
    };
}
