//! The typed API with real modules: swaps, state, panics, frames, transactions, roll back, serving.
#![cfg(all(feature = "host", not(feature = "off")))]

mod common;

use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::{adder, c_module, rust_module};
use hotreload::{frame, ChangeKind, Code, Error, Report, Serving, Slot, PANICKED, UNRESOLVED};

type Add = Slot<i64, i64, i64>;

fn add_one(state: &mut i64, input: &i64, output: &mut i64) -> i32 {
    *state += input;
    *output = *state;
    0
}

/// Loads a module of this test.
fn load(path: &std::path::Path) -> Result<Report, Error> {
    // SAFETY: the test's modules take i64 in all three places.
    unsafe { hotreload::load(path) }
}

fn call(slot: &'static Add, state: &mut i64, input: i64) -> i64 {
    let mut output = 0;
    assert_eq!(slot.call(state, &input, &mut output), 0);
    output
}

#[test]
fn a_module_replaces_the_fallback_and_the_state_stays() {
    static ADD: Add = Slot::new(c"swap.add", add_one);
    ADD.declare().unwrap();
    ADD.declare().unwrap(); // the same static: no error
    let mut state = 0;
    assert_eq!(call(&ADD, &mut state, 5), 5);

    let report = load(&adder("swap", "swap.add", 1, 10)).unwrap();
    assert_eq!((report.module.as_str(), report.version, report.same), ("swap", 1, false));
    let [change] = report.changes.as_slice() else { panic!("{report:?}") };
    assert_eq!((change.symbol.as_str(), change.from, change.to, change.kind), ("swap.add", 0, 1, ChangeKind::Swapped));
    assert!(report.staged != report.path && report.staged.exists(), "{report:?}");
    assert!(report.steps.total >= report.steps.commit);
    assert_eq!(call(&ADD, &mut state, 5), 55);

    load(&adder("swap", "swap.add", 2, 100)).unwrap();
    assert_eq!(call(&ADD, &mut state, 5), 555);
}

#[test]
fn a_module_in_c_serves_a_slot_in_rust() {
    static ADD: Add = Slot::new(c"c.add", add_one);
    ADD.declare().unwrap();
    let source = "#include <hotreload/patch.h>
        static int32_t add(void *state, const void *in, void *out) {
            *(int64_t *)out = *(int64_t *)state += 7 * *(const int64_t *)in;
            return 0;
        }
        HR_MODULE(\"c\", 3, HR_PATCH(\"c.add\", add))";
    let report = load(&c_module("c", source, &[])).unwrap();
    assert_eq!(report.version, 3);
    let mut state = 0;
    assert_eq!(call(&ADD, &mut state, 2), 14);
}

#[test]
fn the_same_content_is_not_swapped_again() {
    static ADD: Add = Slot::new(c"same.add", add_one);
    ADD.declare().unwrap();
    let first = adder("same", "same.add", 1, 10);
    load(&first).unwrap();
    let copy = common::fresh("libsame.so");
    std::fs::copy(&first, &copy).unwrap();
    assert!(load(&copy).unwrap().same);
}

#[test]
fn a_panic_becomes_a_status() {
    static FRAGILE: Slot<i64, i64, i64> = Slot::new(c"panic.add", |_, _, _| panic!("a fallback that panics"));
    FRAGILE.declare().unwrap();
    let (mut state, mut output) = (1, 0);
    assert_eq!(FRAGILE.call(&mut state, &1, &mut output), PANICKED);

    let module = rust_module(
        "panics",
        r#"fn add(state: &mut i64, _: &i64, _: &mut i64) -> i32 { *state += 1; panic!("a patch that panics") }
           hotreload::patch_module!("panics", 1, [("panic.add", add)]);"#,
    );
    load(&module).unwrap();
    assert_eq!(FRAGILE.call(&mut state, &1, &mut output), PANICKED);
    assert_eq!(state, 2, "it was the patch that ran");
    hotreload::rollback(Some("panics")).unwrap();
    assert_eq!(FRAGILE.call(&mut state, &1, &mut output), PANICKED);
    assert_eq!(state, 2, "and now the fallback again");
}

#[test]
fn a_slot_that_nothing_implements_says_so() {
    static NOTHING: Add = Slot::unresolved(c"nothing.add");
    NOTHING.declare().unwrap();
    assert_eq!(NOTHING.call(&mut 0, &1, &mut 0), UNRESOLVED);
    load(&adder("nothing", "nothing.add", 1, 3)).unwrap();
    assert_eq!(call(&NOTHING, &mut 0, 1), 3);
}

#[test]
fn an_undeclared_symbol_is_reported_and_can_be_declared_later() {
    let report = load(&adder("early", "early.add", 1, 4)).unwrap();
    assert_eq!(report.changes[0].kind, ChangeKind::Undeclared);
    static EARLY: Add = Slot::new(c"early.add", add_one);
    EARLY.declare().unwrap();
    assert_eq!(call(&EARLY, &mut 0, 1), 4);
}

#[test]
fn two_slots_of_one_symbol_are_refused() {
    static FIRST: Add = Slot::new(c"twice.add", add_one);
    static SECOND: Add = Slot::new(c"twice.add", add_one);
    FIRST.declare().unwrap();
    assert_eq!(SECOND.declare().unwrap_err().code, Code::Duplicate);
}

#[test]
fn a_slot_declares_itself_at_its_first_call() {
    static LAZY: Add = Slot::new(c"lazy.add", add_one);
    assert_eq!(call(&LAZY, &mut 0, 2), 2);
    let report = load(&adder("lazy", "lazy.add", 1, 9)).unwrap();
    assert_eq!(report.changes[0].kind, ChangeKind::Swapped, "declared by the call");
    assert_eq!(call(&LAZY, &mut 0, 2), 18);
}

#[test]
fn a_frame_runs_one_generation() {
    static ADD: Add = Slot::new(c"frame.add", add_one);
    ADD.declare().unwrap();
    let module = adder("frame", "frame.add", 1, 10);
    let through = |frame: &hotreload::Frame| {
        let mut output = 0;
        assert_eq!(frame.call(&ADD, &mut 0, &1, &mut output), 0);
        output
    };
    frame(|outer| {
        assert_eq!(through(outer), 1);
        load(&module).unwrap();
        assert_eq!(through(outer), 1, "the frame keeps its generation");
        assert_eq!(call(&ADD, &mut 0, 1), 10, "a plain call never looks for a frame");
        assert_eq!(frame(through), 10, "a frame inside begins with what is current");
        assert_eq!(through(outer), 1);
    });
    assert_eq!(frame(through), 10);
}

#[test]
fn a_frame_calls_slots_that_are_younger_than_itself() {
    static YOUNG: Add = Slot::new(c"young.add", add_one);
    static YOUNGER: Add = Slot::new(c"younger.add", add_one);
    let module = adder("younger", "younger.add", 1, 10);
    let mut output = 0;
    frame(|frame| {
        YOUNG.declare().unwrap();
        assert_eq!((frame.call(&YOUNG, &mut 0, &1, &mut output), output), (0, 1));
        load(&module).unwrap();
        assert_eq!(
            (frame.call(&YOUNGER, &mut 0, &1, &mut output), output),
            (0, 10),
            "its first version is the module's"
        );
    });
}

#[test]
fn a_transaction_swaps_all_or_nothing() {
    static LEFT: Add = Slot::new(c"both.left", add_one);
    static RIGHT: Add = Slot::new(c"both.right", add_one);
    LEFT.declare().unwrap();
    RIGHT.declare().unwrap();
    let both = || (call(&LEFT, &mut 0, 1), call(&RIGHT, &mut 0, 1));
    let modules = [adder("left", "both.left", 1, 20), adder("right", "both.right", 1, 20)];

    // SAFETY: as load, here and below.
    let transaction = unsafe { hotreload::prepare(&modules) }.unwrap();
    assert_eq!(both(), (1, 1), "prepared is not swapped");
    drop(transaction);
    assert_eq!(both(), (1, 1), "dropped is aborted");

    let bad = common::fresh("libbad.so");
    std::fs::write(&bad, "no library").unwrap();
    let errors = unsafe { hotreload::prepare(&[modules[0].clone(), bad]) }.unwrap_err();
    let codes: Vec<_> = errors.iter().map(|error| error.code).collect();
    assert!(codes.contains(&Code::NotElf), "{codes:?}");
    assert!(codes.iter().all(|code| [Code::NotElf, Code::Aborted].contains(code)), "{codes:?}");
    assert_eq!(both(), (1, 1));

    let reports = unsafe { hotreload::prepare(&modules) }.unwrap().commit().unwrap();
    assert_eq!(reports.len(), 2);
    assert_eq!(reports[0].generation, reports[1].generation, "one commit");
    assert_eq!(both(), (20, 20));
}

#[test]
fn roll_back_returns_to_what_ran_and_quarantines() {
    static ADD: Add = Slot::new(c"back.add", add_one);
    ADD.declare().unwrap();
    let (first, second) = (adder("back", "back.add", 1, 10), adder("back", "back.add", 2, 100));
    load(&first).unwrap();
    load(&second).unwrap();
    assert_eq!(call(&ADD, &mut 0, 1), 100);
    let reports = hotreload::rollback(Some("back")).unwrap();
    assert_eq!((reports.len(), reports[0].version), (1, 2));
    assert_eq!(call(&ADD, &mut 0, 1), 10);
    let error = load(&second).unwrap_err();
    assert_eq!(error.code, Code::Quarantined);
    assert!(!error.reason.is_empty() && !error.fix.is_empty(), "{error:?}");
    assert_eq!(hotreload::rollback(Some("no such module")).unwrap_err().code, Code::NoPrevious);
}

#[test]
fn threads_call_while_modules_are_swapped() {
    static ADD: Add = Slot::new(c"busy.add", add_one);
    ADD.declare().unwrap();
    let modules: Vec<_> = (1..=4).map(|version| adder("busy", "busy.add", version, i64::from(version))).collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut last = 1;
                    while !done.load(Ordering::Relaxed) {
                        let step = call(&ADD, &mut 0, 1);
                        assert!(step >= last, "a thread went back from {last} to {step}");
                        last = step;
                    }
                    call(&ADD, &mut 0, 1)
                })
            })
            .collect();
        for module in &modules {
            load(module).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for caller in callers {
            assert_eq!(caller.join().unwrap(), 4, "every thread ends on the newest version");
        }
    });
}

#[test]
fn a_call_from_a_destructor_of_a_thread_local_is_served() {
    static ADD: Add = Slot::new(c"late.add", add_one);
    struct Late(std::sync::mpsc::Sender<i64>);
    impl Drop for Late {
        fn drop(&mut self) {
            self.0.send(call(&ADD, &mut 0, 3)).unwrap();
        }
    }
    thread_local!(static LATE: std::cell::RefCell<Option<Late>> = const { std::cell::RefCell::new(None) });
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        LATE.set(Some(Late(sender)));
        call(&ADD, &mut 0, 1);
    });
    assert_eq!(receiver.recv_timeout(Duration::from_secs(30)), Ok(3));
}

#[test]
fn hooks_get_the_context_and_may_veto() {
    static ADD: Add = Slot::new(c"hook.add", add_one);
    static mut CONTEXT: i64 = 0;
    ADD.declare().unwrap();
    // SAFETY: of the modules of this program this one alone has hooks; the static lives on.
    unsafe { hotreload::set_context(&raw mut CONTEXT) };
    let module = rust_module(
        "hooked",
        r#"fn add(_: &mut i64, _: &i64, _: &mut i64) -> i32 { 5 }
           fn check(context: *mut i64) -> i32 { unsafe { *context += 1; if *context == 1 { 7 } else { 0 } } }
           hotreload::patch_module!("hooked", 1, [("hook.add", add)], on_load = check);"#,
    );
    let error = load(&module).unwrap_err();
    assert_eq!((error.code, error.module.as_deref()), (Code::OnLoad, Some("hooked")));
    assert!(error.found.contains('7'), "{error:?}");
    assert_eq!(call(&ADD, &mut 0, 2), 2, "nothing was swapped");
    load(&module).unwrap();
    assert_eq!(ADD.call(&mut 0, &1, &mut 0), 5);
}

#[test]
fn a_served_host_has_a_socket_until_it_stops() {
    // Not in cargo's target directory, whose name may be longer than a socket's path.
    let directory = std::env::temp_dir().join(format!("hr-typed-{}", std::process::id()));
    std::fs::DirBuilder::new().mode(0o700).create(&directory).unwrap();
    std::env::set_var("XDG_RUNTIME_DIR", &directory);
    let socket = directory.join(format!("hotreload/{}.sock", std::process::id()));
    // SAFETY: nobody but this test connects.
    let serve = |name: &str| unsafe { hotreload::serve(name, Serving { polled: true, at_safe_point: false }) };
    assert_eq!(serve("").unwrap_err().code, Code::Usage);
    serve("typed-test").unwrap();
    assert_eq!(serve("typed-test").unwrap_err().code, Code::Duplicate);
    let stream = UnixStream::connect(&socket).unwrap();
    assert_eq!(hotreload::poll(Duration::ZERO), 0, "a connection alone is no request");
    hotreload::safepoint();
    drop(stream);
    hotreload::stop();
    assert!(!socket.exists());
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn versions_agree() {
    assert_eq!(hotreload::version(), env!("CARGO_PKG_VERSION"));
}

#[test]
fn the_number_of_slots_is_set_before_anything_else() {
    static ADD: Add = Slot::new(c"late.configure", add_one);
    ADD.declare().unwrap();
    assert_eq!(hotreload::configure(100).unwrap_err().code, Code::Usage);
}
