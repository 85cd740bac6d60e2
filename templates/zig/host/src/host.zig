//! The host: it owns the state and runs for as long as it likes. What happens in a tick is a slot.

const std = @import("std");
const hotreload = @import("hotreload.zig");
const shared = @import("state.zig");

/// The fallback: what the slot does until a module brings something better.
fn tick(self: *shared.State, _: *const void, done: *shared.Tick) i32 {
    done.step = 1;
    self.count += done.step;
    return 0;
}

var slot_tick = hotreload.slot("@NAME@.tick", tick);

// libc's own: they stay what they are from one version of Zig to the next.
extern fn printf(format: [*:0]const u8, ...) c_int;
extern fn fflush(stream: ?*anyopaque) c_int;
extern fn usleep(microseconds: c_uint) c_int;

pub fn main() !void {
    var state: shared.State = .{};
    try slot_tick.declare();
    try hotreload.serve("@NAME@", &state);
    while (true) {
        var done: shared.Tick = .{};
        const status = slot_tick.call(&state, &{}, &done);
        _ = printf("count=%lld step=%+lld status=%d\n", @as(c_longlong, state.count), @as(c_longlong, done.step), status);
        _ = fflush(null);
        _ = usleep(100_000);
    }
}

test "the fallback counts by one" {
    var state: shared.State = .{ .count = 5 };
    var done: shared.Tick = .{};
    try std.testing.expectEqual(0, tick(&state, &{}, &done));
    try std.testing.expectEqual(6, state.count);
}
