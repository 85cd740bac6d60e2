const std = @import("std");

/// The first word of `hotreload config --libs`, when this project was made.
const archive = "@ARCHIVE@";

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.standardOptimizeOption(.{});
    const tests = b.step("test", "Run the tests");

    const host = b.createModule(.{
        .root_source_file = b.path("src/host.zig"),
        .target = target,
        .optimize = optimize,
        .link_libc = true,
    });
    host.addObjectFile(.{ .cwd_relative = archive });
    b.installArtifact(b.addExecutable(.{ .name = "@NAME@-host", .root_module = host }));
    tests.dependOn(&b.addRunArtifact(b.addTest(.{ .root_module = host })).step);
}
