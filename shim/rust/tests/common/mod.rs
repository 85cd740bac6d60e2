//! Builds real modules: Rust ones by rustc against this crate without its host, C ones by the C compiler.
#![allow(dead_code)] // each test program uses its own part

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::OnceLock;

/// A directory of this test process's own.
pub fn scratch() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("modules-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a scratch directory");
        // The test runner's umask may let the group write; such a directory is refused.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).expect("its permissions");
        directory
    })
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} failed:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// This crate as modules see it: no host, nothing of C.
fn module_side() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("module-side");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        run(Command::new(cargo)
            .args(["build", "--no-default-features", "--lib"])
            .args(if cfg!(feature = "macros") { &["--features", "macros"][..] } else { &[] })
            .arg("--manifest-path")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target));
        target.join("debug/libhotreload.rlib")
    })
}

/// A fresh path in the scratch directory.
pub fn fresh(name: &str) -> PathBuf {
    static SERIAL: AtomicU32 = AtomicU32::new(0);
    scratch().join(format!("{}-{name}", SERIAL.fetch_add(1, Ordering::Relaxed)))
}

fn with_source(name: &str, extension: &str, source: &str) -> (PathBuf, PathBuf) {
    let output = fresh(&format!("lib{name}.so"));
    let file = output.with_extension(extension);
    fs::write(&file, source).expect("a source file");
    (file, output)
}

/// What rustc says to a module that must not compile.
pub fn rejected_module(name: &str, source: &str) -> String {
    let (file, output) = with_source(name, "rs", source);
    let done = rustc(name, &file, &output).output().expect("rustc");
    assert!(!done.status.success(), "{name} compiles");
    String::from_utf8_lossy(&done.stderr).into_owned()
}

/// Builds a module from Rust.
pub fn rust_module(name: &str, source: &str) -> PathBuf {
    let (file, output) = with_source(name, "rs", source);
    run(&mut rustc(name, &file, &output));
    output
}

fn rustc(name: &str, file: &Path, output: &Path) -> Command {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--crate-type", "cdylib", "--edition", "2021", "--crate-name", name, "-O"]);
    let library = module_side();
    command.arg("--extern").arg(format!("hotreload={}", library.display()));
    command.arg("-L").arg(format!("dependency={}", library.with_file_name("deps").display())); // the macros
    command.arg("-o").arg(output).arg(file);
    command
}

/// Builds a module from C.
pub fn c_module(name: &str, source: &str, flags: &[&str]) -> PathBuf {
    let (file, output) = with_source(name, "c", source);
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let mut command = Command::new(compiler);
    command.args(["-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wl,-Bsymbolic"]).args(flags);
    command.arg("-I").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../include"));
    run(command.arg("-o").arg(&output).arg(&file));
    output
}

/// A module that adds `step` times the input, in the typed way.
pub fn adder(name: &str, symbol: &str, version: u32, step: i64) -> PathBuf {
    rust_module(
        name,
        &format!(
            "fn add(state: &mut i64, input: &i64, output: &mut i64) -> i32 {{
                 *state += {step} * *input;
                 *output = *state;
                 0
             }}
             hotreload::patch_module!(\"{name}\", {version}, [(\"{symbol}\", add)]);"
        ),
    )
}
