const std = @import("std");

/// The first word of `hotreload config --libs`, when this project was made.
const archive = "@ARCHIVE@";

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.standardOptimizeOption(.{});
    const tests = b.step("test", "Run the tests");

    const patch = b.createModule(.{
        .root_source_file = b.path("src/patch.zig"),
        .target = target,
        .optimize = optimize,
    });
    const module = b.addLibrary(.{ .name = "@NAME@", .linkage = .dynamic, .root_module = patch });
    // It is for C files. Its functions would be exported: one version of the module could call those of another.
    module.bundle_ubsan_rt = false;
    b.installArtifact(module);
    tests.dependOn(&b.addRunArtifact(b.addTest(.{ .root_module = patch })).step);

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
