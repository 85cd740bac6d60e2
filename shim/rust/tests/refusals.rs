//! Every refusal that a module file can cause, through both APIs: the host lives, and nothing in it has changed.
#![cfg(all(feature = "host", not(feature = "off")))]

mod common;

use core::ffi::c_void;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::{c_module, fresh, rust_module};
use hotreload::hotpatch_rs::{HotpatchError, HotpatchRuntime, ABI_MAGIC_V1, ABI_VERSION_V1};
use hotreload::Code;

const SYMBOL: &str = "refused.add";
const MANIFEST_START: [u8; 8] = [0x31, 0x54, 0x50, 0x48, 1, 0, 56, 0];

unsafe extern "C" fn fallback(_: *mut c_void, input: *const c_void, output: *mut c_void) -> i32 {
    // SAFETY: called by answer alone.
    unsafe { *output.cast::<i64>() = input.cast::<i64>().read() + 1 };
    0
}

fn answer(runtime: &HotpatchRuntime) -> i64 {
    let mut output = 0_i64;
    // SAFETY: fallback and modules take an i64 in both places, and leave the state alone.
    assert_eq!(unsafe { runtime.call_typed(SYMBOL, &1_i64, &mut output) }.unwrap(), 0);
    output
}

fn good() -> PathBuf {
    c_module("good", &source("HR_MODULE(\"good\", 1, HR_PATCH(\"refused.add\", add))"), &["-Wl,--build-id"])
}

fn source(manifest: &str) -> String {
    format!(
        "#include <hotreload/patch.h>
         static int32_t add(void *state, const void *in, void *out) {{
             (void)state;
             *(int64_t *)out = *(const int64_t *)in + 100;
             return 0;
         }}
         {manifest}"
    )
}

/// Writes `bytes` as a module that only its owner can change.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = fresh(name);
    fs::write(&path, bytes).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// The good module, changed by `change`.
fn changed(change: impl FnOnce(&mut Vec<u8>)) -> PathBuf {
    let mut bytes = fs::read(good()).unwrap();
    change(&mut bytes);
    file("libchanged.so", &bytes)
}

fn find(bytes: &[u8], pattern: &[u8]) -> usize {
    bytes.windows(pattern.len()).position(|window| window == pattern).expect("the pattern is in the module")
}

/// Loads `path`, asserts its code, and that the host is as it was. Returns the error of the compatible API.
fn refused(path: &Path, code: Code) -> HotpatchError {
    let runtime = HotpatchRuntime::new();
    runtime.register_fallback(SYMBOL, fallback).unwrap();
    let error = runtime.load(path).unwrap_err();
    assert_eq!(error.code, code, "{error}");
    assert!(!error.reason.is_empty() && !error.fix.is_empty(), "a refusal tells why, and the cure: {error:?}");
    assert!(error.to_string().starts_with(code.as_str()));
    let compatible = runtime.load_module(path).unwrap_err();
    assert_eq!(answer(&runtime), 2, "the fallback runs on");
    assert_eq!((runtime.generation(), runtime.loaded_modules().len()), (0, 0));
    assert_eq!(runtime.list_symbols(), [SYMBOL]);
    // And the same host takes a good module afterwards.
    runtime.load_module(good()).unwrap();
    assert_eq!(answer(&runtime), 101);
    compatible
}

fn assert_library_load(error: &HotpatchError, code: Code) {
    let HotpatchError::LibraryLoad { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.code, code);
    assert!(std::error::Error::source(error).is_some());
}

#[test]
fn a_missing_file() {
    assert_library_load(&refused(&fresh("none.so"), Code::Io), Code::Io);
}

#[test]
fn a_path_with_a_zero_byte() {
    assert_library_load(&refused(Path::new("a\0b.so"), Code::Usage), Code::Usage);
}

#[test]
fn a_file_that_others_can_write() {
    let path = changed(|_| {});
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    assert_library_load(&refused(&path, Code::Denied), Code::Denied);
}

#[test]
fn no_library_at_all() {
    assert_library_load(&refused(&file("text.so", &[b'x'; 4096]), Code::NotElf), Code::NotElf);
}

#[test]
fn another_machine() {
    let path = changed(|bytes| bytes[18..20].copy_from_slice(&243_u16.to_le_bytes())); // EM_RISCV
    assert_library_load(&refused(&path, Code::Arch), Code::Arch);
}

#[test]
fn bytes_missing_at_any_cut() {
    let whole = fs::read(good()).unwrap();
    for hundredths in [30, 60, 90, 99] {
        let path = file("libcut.so", &whole[..whole.len() * hundredths / 100]);
        assert_library_load(&refused(&path, Code::Truncated), Code::Truncated);
    }
}

#[test]
fn no_manifest() {
    let path = c_module("plain", "int plain(void) { return 0; }", &[]);
    let error = refused(&path, Code::NoManifest);
    let HotpatchError::MissingExport { symbol, source } = error else { panic!("{error:?}") };
    assert_eq!((symbol, source.code), ("HOTPATCH_MODULE_V1", Code::NoManifest));
}

#[test]
fn another_magic() {
    let path = changed(|bytes| {
        let at = find(bytes, &MANIFEST_START);
        bytes[at..at + 4].copy_from_slice(&0xDEAD_BEEF_u32.to_le_bytes());
    });
    let error = refused(&path, Code::Abi);
    let HotpatchError::AbiMismatch { expected_magic, got_magic, expected_version, got_version } = error else {
        panic!("{error:?}")
    };
    assert_eq!((expected_magic, expected_version), (ABI_MAGIC_V1, ABI_VERSION_V1));
    assert_eq!((got_magic, got_version), (0xDEAD_BEEF, 1));
}

#[test]
fn another_version_of_the_abi() {
    let path = changed(|bytes| {
        let at = find(bytes, &MANIFEST_START);
        bytes[at + 4] = 2;
    });
    let error = refused(&path, Code::Abi);
    assert!(matches!(error, HotpatchError::AbiMismatch { got_magic: ABI_MAGIC_V1, got_version: 2, .. }), "{error:?}");
}

#[test]
fn another_struct_size() {
    let path = changed(|bytes| {
        let at = find(bytes, &MANIFEST_START);
        bytes[at + 6] = 48;
    });
    let error = refused(&path, Code::Abi);
    assert!(matches!(&error, HotpatchError::InvalidModule(text) if text.contains("E-ABI")), "{error:?}");
}

#[test]
fn names_that_are_not_utf8() {
    let path = changed(|bytes| {
        let at = find(bytes, b"refused.add\0");
        bytes[at] = 0xFF;
    });
    let error = refused(&path, Code::Manifest);
    assert!(matches!(error, HotpatchError::InvalidModule(_)), "{error:?}");
}

#[test]
fn a_symbol_twice() {
    let manifest = "HR_MODULE(\"double\", 1, HR_PATCH(\"refused.add\", add), HR_PATCH(\"refused.add\", add))";
    let error = refused(&c_module("double", &source(manifest), &[]), Code::Manifest);
    assert!(matches!(error, HotpatchError::InvalidModule(_)), "{error:?}");
}

#[test]
fn an_unresolved_symbol_is_named() {
    let path = rust_module(
        "lacking",
        r#"extern "C" { fn nobody_offers_this() -> i32; }
           fn add(_: &mut u8, _: &i64, _: &mut i64) -> i32 { unsafe { nobody_offers_this() } }
           hotreload::patch_module!("lacking", 1, [("refused.add", add)]);"#,
    );
    let error = refused(&path, Code::Symbols);
    assert_library_load(&error, Code::Symbols);
    assert!(error.to_string().contains("nobody_offers_this"), "{error}");
}

#[test]
fn static_thread_local_storage() {
    let text = "_Thread_local int counter __attribute__((tls_model(\"initial-exec\"), visibility(\"default\")));
        static int32_t add(void *s, const void *i, void *o) { (void)s; (void)i; (void)o; return counter++; }
        #include <hotreload/patch.h>
        HR_MODULE(\"tls\", 1, HR_PATCH(\"refused.add\", add))"
        .replace("_Thread_local", "#include <stdint.h>\n_Thread_local");
    let path = c_module("tls", &text, &[]);
    assert_library_load(&refused(&path, Code::StaticTls), Code::StaticTls);
}

#[test]
fn a_veto() {
    let path = rust_module(
        "veto",
        r#"fn add(_: &mut u8, _: &i64, _: &mut i64) -> i32 { 0 }
           fn check(_: *mut u8) -> i32 { -7 }
           hotreload::patch_module!("veto", 1, [("refused.add", add)], on_load = check);"#,
    );
    let error = refused(&path, Code::OnLoad);
    let HotpatchError::LifecycleFailed { module, hook, status } = error else { panic!("{error:?}") };
    assert_eq!((module.as_str(), hook, status), ("veto", "on_load", -7));
}

#[test]
fn a_panic_in_on_load_is_a_veto() {
    let path = rust_module(
        "veto",
        r#"fn add(_: &mut u8, _: &i64, _: &mut i64) -> i32 { 0 }
           fn check(_: *mut u8) -> i32 { panic!("an on_load that panics") }
           hotreload::patch_module!("veto", 1, [("refused.add", add)], on_load = check);"#,
    );
    let error = refused(&path, Code::OnLoad);
    assert!(matches!(error, HotpatchError::LifecycleFailed { status: hotreload::PANICKED, .. }), "{error:?}");
}

#[test]
fn what_was_rolled_back() {
    let runtime = HotpatchRuntime::new();
    runtime.register_fallback(SYMBOL, fallback).unwrap();
    let path = good();
    runtime.load_module(&path).unwrap();
    runtime.rollback(None).unwrap();
    assert_library_load(&runtime.load_module(&path).unwrap_err(), Code::Quarantined);
    assert_eq!(answer(&runtime), 2);
}
