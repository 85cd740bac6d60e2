//! The patch module. Edit `step` and save: the running host counts by it from its next tick on.

const hotreload = @import("hotreload.zig");
const shared = @import("state.zig");

// Ends the process, but says why.
pub const panic = hotreload.panic;

const step = 10;

fn tick(state: ?*anyopaque, _: ?*const anyopaque, output: ?*anyopaque) callconv(.c) i32 {
    const self: *shared.State = @ptrCast(@alignCast(state.?));
    const done: *shared.Tick = @ptrCast(@alignCast(output.?));
    done.step = step;
    self.count += done.step;
    return 0;
}

const entries = [_]hotreload.Entry{.{ .name = "@NAME@.tick", .func = tick }};

// The number is yours to choose; hotreload counts the versions of each slot by itself.
export const HOTPATCH_MODULE_V1: hotreload.Module = .{
    .module_version = 1,
    .name = "@NAME@",
    .entry_count = entries.len,
    .entries = &entries,
};

test "the count grows by the step" {
    const std = @import("std");
    var state: shared.State = .{ .count = 5 };
    var done: shared.Tick = .{};
    try std.testing.expectEqual(0, tick(&state, null, &done));
    try std.testing.expectEqual(5 + step, state.count);
}
