const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.standardOptimizeOption(.{});
    const tests = b.step("test", "Run the tests");

    const patch = b.createModule(.{
        .root_source_file = b.path("src/patch.zig"),
        .target = target,
        .optimize = optimize,
    });
    b.installArtifact(b.addLibrary(.{ .name = "@NAME@", .linkage = .dynamic, .root_module = patch }));
    tests.dependOn(&b.addRunArtifact(b.addTest(.{ .root_module = patch })).step);
}
