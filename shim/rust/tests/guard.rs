//! The guard: a patch that crashes is rolled back, and the call's own state is what it was.
#![cfg(all(feature = "host", not(feature = "off")))]

mod common;

use hotreload::{Code, Guard, Options, Slot};

hotreload::layout! {
    #[derive(Clone, Copy, Debug, Default, PartialEq)]
    pub struct Counter { total: i64, calls: u32 }
}

fn add(counter: &mut Counter, amount: &i64, total: &mut i64) -> i32 {
    counter.total += amount;
    counter.calls += 1;
    *total = counter.total;
    0
}

static ADD: Slot<Counter, i64, i64> = Slot::new(c"guard.add", add).described();
static SHARED: Slot<Counter, i64, i64> = Slot::new(c"guard.shared", add).described();

const CRASHES: &str = r#"
    hotreload::layout! { pub struct Counter { total: i64, calls: u32 } }
    fn add(counter: &mut Counter, _: &i64, _: &mut i64) -> i32 {
        counter.total = -1;
        counter.calls = 99;
        // SAFETY: none; this is the crash.
        unsafe { core::ptr::dangling_mut::<u64>().wrapping_add(1).write_volatile(1) };
        0
    }
    hotreload::patch_module!("crashes", 1, [described("guard.add", add), described("guard.shared", add)]);
"#;

#[test]
fn a_crashing_patch_leaves_the_state_as_it_was() {
    assert_eq!(ADD.guard_state().unwrap_err().code, Code::NoSlot, "it is not declared yet");
    ADD.declare().unwrap();
    SHARED.declare().unwrap();
    ADD.guard_state().unwrap();
    hotreload::set_options(Options { guard: Some(Guard::default()), ..Options::default() }).unwrap();
    let (mut counter, mut total) = (Counter::default(), 0);
    assert_eq!((ADD.call(&mut counter, &5, &mut total), total), (0, 5));
    let module = common::rust_module("crashes", CRASHES);
    // SAFETY: the module takes the types of the slots.
    unsafe { hotreload::load(&module) }.unwrap();
    assert_eq!((ADD.call(&mut counter, &2, &mut total), total), (0, 7), "the fallback answers the very same call");
    assert_eq!(counter, Counter { total: 7, calls: 2 }, "on the state of before");
    // SAFETY: as above.
    assert_eq!(unsafe { hotreload::load(&module) }.unwrap_err().code, Code::Quarantined);
}

#[test]
fn state_that_nobody_vouched_for_is_left_alone() {
    static ALONE: Slot<Counter, i64, i64> = Slot::new(c"guard.alone", add).described();
    ALONE.declare().unwrap();
    hotreload::set_options(Options { guard: Some(Guard::default()), ..Options::default() }).unwrap();
    let source = CRASHES.replace("guard.add", "guard.alone").replace(", described(\"guard.shared\", add)", "");
    // SAFETY: the module takes the types of the slot.
    unsafe { hotreload::load(common::rust_module("alone", &source.replace("\"crashes\"", "\"alone\""))) }.unwrap();
    let (mut counter, mut total) = (Counter::default(), 0);
    assert_eq!((ALONE.call(&mut counter, &2, &mut total), total), (0, 1));
    assert_eq!(counter, Counter { total: 1, calls: 100 });
}
