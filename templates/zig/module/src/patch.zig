//! The patch module. Edit `step` and save: the running host counts by it from its next tick on.

const hotreload = @import("hotreload.zig");
const shared = @import("state.zig");

// Ends the process, but says why.
pub const panic = hotreload.panic;

const step = 10;

fn tick(self: *shared.State, _: *const void, done: *shared.Tick) i32 {
    done.step = step;
    self.count += done.step;
    return 0;
}

const patches = [_]hotreload.Patch{hotreload.patch("@NAME@.tick", tick)};

// The number is yours to choose; hotreload counts the versions of each slot by itself.
export const HOTPATCH_MODULE_V1 = hotreload.module("@NAME@", 1, &patches);
// What the functions take: a host with other structs refuses the module, field by field (E-LAYOUT).
export const HOTPATCH_LAYOUT_V1 = hotreload.layout(&patches);

test "the count grows by the step" {
    const std = @import("std");
    var state: shared.State = .{ .count = 5 };
    var done: shared.Tick = .{};
    try std.testing.expectEqual(0, tick(&state, &{}, &done));
    try std.testing.expectEqual(5 + step, state.count);
}
