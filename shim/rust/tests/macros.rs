//! `#[slot]` and `#[module]`, with real modules.
#![cfg(all(feature = "macros", feature = "host"))]

#[cfg(not(feature = "off"))]
mod common;

use hotreload::frame;

#[derive(Clone, Copy, Default, Debug, PartialEq)]
#[repr(C)]
pub struct Counter {
    total: i64,
    calls: u32,
}

/// Everything that a slot's function can look like, in a module that forbids unsafe code.
mod slots {
    #![forbid(unsafe_code)]
    use super::Counter;

    /// Adds.
    #[hotreload::slot("macros.add")]
    pub fn add(counter: &mut Counter, amount: i64) -> i64 {
        counter.calls += 1;
        counter.total += amount;
        counter.total
    }

    #[hotreload::slot("macros.reset")]
    pub fn reset(counter: &mut Counter) {
        *counter = Counter::default();
    }

    #[hotreload::slot("macros.half")]
    pub(super) fn half(&x: &f64) -> f64 {
        x / 2.0
    }

    #[hotreload::slot("macros.answer")]
    pub fn answer() -> String {
        "forty-two".to_owned()
    }

    #[hotreload::slot("macros.root")]
    pub fn root(mut x: i64) -> Result<i64, i32> {
        if x < 0 {
            return Err(-33);
        }
        let mut root = 0;
        while x > 2 * root {
            x -= 2 * root + 1;
            root += 1;
        }
        if x == 0 {
            Ok(root)
        } else {
            Err(0)
        }
    }

    #[hotreload::slot("macros.status")]
    pub fn status(state: &mut i64, input: &i64, output: &mut i64) -> i32 {
        *output = *state;
        *input as i32
    }

    #[hotreload::slot("macros.fragile")]
    pub fn fragile(x: u8) -> u8 {
        assert!(x < 100, "a fallback that panics");
        x
    }

    #[hotreload::slot("macros.factorial")]
    pub fn factorial(n: u64) -> u64 {
        if n == 0 {
            1
        } else {
            n * factorial(n - 1)
        }
    }
}

use slots::*;

#[test]
fn a_function_is_its_own_fallback() {
    let mut counter = Counter::default();
    assert_eq!((add(&mut counter, 3), add(&mut counter, 4)), (3, 7));
    assert_eq!(counter, Counter { total: 7, calls: 2 });
    reset(&mut counter);
    assert_eq!(counter, Counter::default());
    assert_eq!((half(&3.0), answer().as_str(), factorial(5)), (1.5, "forty-two", 120));
    assert_eq!((root(49), root(-1), root(50)), (Ok(7), Err(-33), Err(-1)));
    let mut output = 0;
    assert_eq!((status(&mut 5, &17, &mut output), output), (17, 5));
    assert_eq!(add::slot().symbol(), "macros.add");
    frame(|frame| assert_eq!(frame.call(status::slot(), &mut 6, &0, &mut output), 0));
    assert_eq!(output, 6);
}

#[cfg(not(feature = "off"))]
#[test]
fn a_panic_is_the_callers_to_handle() {
    assert_eq!(fragile(99), 99);
    let panic = std::panic::catch_unwind(|| fragile(100)).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("macros.fragile: its implementation panicked"));
}

#[cfg(not(feature = "off"))]
const MODULE: &str = r#"
    #[hotreload::module("macros", 4)]
    mod patches {
        #[repr(C)]
        pub struct Counter { total: i64, calls: u32 }

        #[hotreload::patch("macros.add")]
        fn add(counter: &mut Counter, amount: i64) -> i64 {
            counter.calls += 1;
            counter.total += 10 * amount;
            super::helped(counter.total)
        }

        #[patch("macros.factorial")]
        fn factorial(n: u64) -> Result<u64, i32> { Err(n as i32) }

        #[patch("macros.root")]
        #[patch("macros.other")]
        fn root(x: i64) -> Result<i64, i32> { if x == 3 { panic!("a patch that panics") } else { Err(x as i32) } }

        #[on_load]
        fn check(context: *mut i64) -> i32 { if context.is_null() { 9 } else { 0 } }
    }
    fn helped(total: i64) -> i64 { total }
"#;

#[cfg(not(feature = "off"))]
#[test]
fn a_module_of_patches_replaces_them() {
    // SAFETY: the test's module takes the types of the slots.
    let load = |path| unsafe { hotreload::load(path) };
    for declare in [add::declare, root::declare, factorial::declare] {
        declare().unwrap();
        declare().unwrap();
    }
    let mut counter = Counter::default();
    assert_eq!(add(&mut counter, 1), 1);
    let module = common::rust_module("macros", MODULE);
    let refused = load(&module).unwrap_err();
    assert_eq!((refused.code, refused.found.contains('9')), (hotreload::Code::OnLoad, true), "its on_load vetoes");
    static mut CONTEXT: i64 = 0;
    // SAFETY: the module only looks whether it is there; the static lives on.
    unsafe { hotreload::set_context(&raw mut CONTEXT) };
    let report = load(&module).unwrap();
    assert_eq!((report.module.as_str(), report.version, report.changes.len()), ("macros", 4, 4));
    assert_eq!(add(&mut counter, 1), 11, "its state is intact");
    assert_eq!(counter, Counter { total: 11, calls: 2 });
    assert_eq!((root(4), root(3)), (Err(4), Err(hotreload::PANICKED)));
    let panic = std::panic::catch_unwind(|| factorial(5)).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("macros.factorial returned status 5"));
    hotreload::rollback(Some("macros")).unwrap();
    assert_eq!((add(&mut counter, 1), factorial(3)), (12, 6));
}

#[derive(Clone, Copy, hotreload::Layout)]
#[repr(C)]
pub struct Described {
    total: i64,
    #[layout(name = "mode")]
    style: Mode,
}

#[derive(Clone, Copy, hotreload::Layout)]
#[repr(u8)]
pub enum Mode {
    #[layout(name = "MODE_OFF")]
    Off = 3,
    #[layout(name = "MODE_ON")]
    On,
}

#[hotreload::slot("macros.described")]
pub fn described(state: &mut Described, input: &u32) -> i64 {
    state.style = Mode::On;
    state.total + i64::from(*input)
}

#[cfg(not(feature = "off"))]
#[test]
fn attributes_compare_what_is_described() {
    described::declare().unwrap();
    // SAFETY: what takes other types is refused.
    let load = |source: &str| unsafe { hotreload::load(common::rust_module("described", source)) };
    let module = |kind: &str, input: &str, more: &str| {
        format!(
            "#[derive(hotreload::Layout)] #[repr(C)] pub struct Described {{ total: {kind}, mode: Mode }}
             #[derive(hotreload::Layout)] #[repr(u8)] #[allow(non_camel_case_types)]
             pub enum Mode {{ MODE_OFF = 3, MODE_ON {more} }}
             #[hotreload::module(\"described\", 1)]
             mod patches {{
                 use super::*;
                 #[patch(\"macros.described\")]
                 fn described(state: &mut Described, input: {input}) -> i64 {{
                     10 * state.total as i64 + input as i64
                 }}
             }}"
        )
    };
    let mut state = Described { total: 4, style: Mode::Off };
    for (kind, input, more, reason) in [
        ("u64", "u32", "", "Described.total retyped"),
        ("i64", "u32", "= 7", "Mode.MODE_ON moved"),
        ("i64", "f32", "", "the input of macros.described is another type"),
    ] {
        let refused = load(&module(kind, input, more)).unwrap_err();
        assert_eq!(refused.code, hotreload::Code::Layout);
        assert!(refused.reason.contains(reason), "{refused}");
    }
    assert_eq!(described(&mut state, &1), 5);
    load(&module("i64", "u32", ", MODE_AUTO")).unwrap();
    assert_eq!(described(&mut state, &1), 41);
}
