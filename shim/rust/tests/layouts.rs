//! Layouts: the descriptions that the crate makes, compared with those of C for the same types, and refusals by them.
#![cfg(all(feature = "host", not(feature = "off")))]

mod common;

use common::{c_module, rust_module};
use hotreload::{Code, Error, Report, Slot};

hotreload::layout! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub enum Wave { SINE, SAW = 5, SQUARE }

    #[derive(Clone, Copy)]
    pub union Number { pub f: f32, pub u: u32 }

    #[derive(Clone, Copy)]
    pub struct Envelope { pub level: f32, pub rate: f32, pub spare: hotreload::Reserve<8> }

    #[derive(Clone, Copy)]
    pub struct Voice {
        pub phase: f64,
        pub envelope: Envelope,
        pub wave: Wave,
        pub taps: [f32; 4],
        pub grid: [[i16; GRID]; 2],
        pub next: *mut Voice,
        pub name: *const core::ffi::c_char,
        pub label: [core::ffi::c_char; 12],
        pub number: Number,
        pub on: bool,
        pub r#type: u8,
        pub spare: hotreload::Reserve<26>,
    }
}

const GRID: usize = 3;

const HEADER: &str = r#"
    typedef enum Wave { SINE, SAW = 5, SQUARE } Wave;
    #define WAVE_VALUES(V) V(SINE) V(SAW) V(SQUARE)
    HR_LAYOUT_ENUM(Wave, WAVE_VALUES)
    typedef union Number { float f; uint32_t u; } Number;
    #define NUMBER_FIELDS(F) F(Number, f, float) F(Number, u, uint32_t)
    HR_LAYOUT_UNION(Number, NUMBER_FIELDS)
    #define ENVELOPE_FIELDS(F) F(Envelope, level, float) F(Envelope, rate, float) F(Envelope, spare, hr_reserve, [8])
    HR_STRUCT(Envelope, ENVELOPE_FIELDS)
    HR_LAYOUT(Envelope, ENVELOPE_FIELDS)
    #ifndef TAPS
    #define TAPS 4
    #endif
    #define VOICE_FIELDS(F) \
        F(Voice, phase, double) F(Voice, envelope, Envelope) F(Voice, wave, Wave) F(Voice, taps, float, [TAPS]) \
        F(Voice, grid, int16_t, [2][3]) F(Voice, next, Voice *) F(Voice, name, const char *) \
        F(Voice, label, char, [12]) F(Voice, number, Number) F(Voice, on, bool) F(Voice, type, uint8_t) \
        F(Voice, spare, hr_reserve, [26])
    HR_STRUCT(Voice, VOICE_FIELDS)
    HR_LAYOUT(Voice, VOICE_FIELDS)
"#;

fn tick(voice: &mut Voice, gain: &f32, peak: &mut f64) -> i32 {
    voice.phase += f64::from(*gain);
    *peak = voice.phase;
    0
}

static TICK: Slot<Voice, f32, f64> = Slot::new(c"layouts.tick", tick).described();

fn voice() -> Voice {
    Voice {
        phase: 1.0,
        envelope: Envelope { level: 0.5, rate: 0.25, spare: Default::default() },
        wave: Wave::SAW,
        taps: [1.0; 4],
        grid: [[1, 2, 3], [4, 5, 6]],
        next: core::ptr::null_mut(),
        name: core::ptr::null(),
        label: [0; 12],
        number: Number { u: 7 },
        on: true,
        r#type: 3,
        spare: Default::default(),
    }
}

fn load(module: &std::path::Path) -> Result<Report, Error> {
    // SAFETY: what takes other types is refused.
    unsafe { hotreload::load(module) }
}

fn c(name: &str, taps: u32) -> std::path::PathBuf {
    let source = format!(
        "#include <stdbool.h>\n#include <hotreload/patch.h>\n{HEADER}
         static int32_t tick(void *state, const void *in, void *out) {{
             Voice *voice = state;
             (void)in;
             *(double *)out = voice->phase + 100 * voice->type + voice->spare[25];
             return voice->wave == SAW ? 0 : 1;
         }}
         HR_MODULE(\"{name}\", 1, HR_PATCH(\"layouts.tick\", tick))
         HR_MODULE_LAYOUT(HR_TYPE(Envelope) HR_TYPE(Wave) HR_TYPE(Number), HR_TAKES(\"layouts.tick\", Voice, float, double))"
    );
    c_module(name, &source, &["-Wall", "-Wextra", "-Werror", &format!("-DTAPS={taps}")])
}

#[test]
fn a_c_module_fits_a_host_in_rust_or_is_refused() {
    TICK.declare().unwrap();
    TICK.declare().unwrap();
    let (mut state, mut peak) = (voice(), 0.0);
    let refused = load(&c("voices", 5)).unwrap_err();
    assert_eq!(refused.code, Code::Layout, "{refused}");
    assert!(refused.reason.contains("Voice.taps resized"), "{refused}");
    assert!(
        refused.expected.contains(
            "taps float[4] @28 (16), grid int16_t[2][3] @44 (12), next Voice * @56 (8), name const char * @64 (8)"
        ),
        "{refused}"
    );
    assert_eq!((TICK.call(&mut state, &0.5, &mut peak), peak), (0, 1.5), "the fallback still runs");
    load(&c("voices", 4)).unwrap();
    assert_eq!((TICK.call(&mut state, &0.5, &mut peak), peak), (0, 301.5));
}

hotreload::layout! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Counter { pub total: i64, pub calls: u32, pub spare: hotreload::Reserve<20> }
}

fn add(counter: &mut Counter, amount: &i64, total: &mut i64) -> i32 {
    counter.total += amount;
    *total = counter.total;
    0
}

static ADD: Slot<Counter, i64, i64> = Slot::new(c"layouts.add", add).described();
static GROW: Slot<Grown, i64, i64> = Slot::new(c"layouts.grow", grow).described();

mod grown {
    hotreload::layout! {
        #[derive(Clone, Copy, Debug, PartialEq)]
        #[layout(name = "Grown")]
        pub struct Grown { pub total: i64, pub calls: u32, pub spare: hotreload::Reserve<20> }
    }
}
use grown::Grown;

fn grow(counter: &mut Grown, amount: &i64, total: &mut i64) -> i32 {
    counter.total += amount;
    *total = counter.total;
    0
}

/// A module whose `Counter` has these fields.
fn rust(name: &str, symbol: &str, kind: &str, fields: &str) -> std::path::PathBuf {
    rust_module(
        name,
        &format!(
            "#![deny(warnings)]
             hotreload::layout! {{ #[allow(dead_code)] pub struct {kind} {{ {fields} }} }}
             fn add(counter: &mut {kind}, amount: &i64, total: &mut i64) -> i32 {{
                 counter.total += 10 * amount;
                 *total = counter.total;
                 0
             }}
             hotreload::patch_module!(\"{name}\", 1, [described(\"{symbol}\", add)]);"
        ),
    )
}

#[test]
fn a_module_of_another_layout_is_refused() {
    ADD.declare().unwrap();
    let (mut counter, mut total) = (Counter { total: 5, calls: 0, spare: Default::default() }, 0);
    let same = "total: i64, calls: u32, spare: hotreload::Reserve<20>";
    let moved = rust("moved", "layouts.add", "Counter", "calls: u32, total: i64, spare: hotreload::Reserve<16>");
    let refused = load(&moved).unwrap_err();
    assert_eq!(refused.code, Code::Layout);
    assert!(refused.reason.contains("Counter.calls moved, Counter.total moved"), "{refused}");
    ADD.call(&mut counter, &1, &mut total);
    assert_eq!(total, 6, "nothing has changed");
    load(&rust("same", "layouts.add", "Counter", same)).unwrap();
    ADD.call(&mut counter, &1, &mut total);
    assert_eq!(total, 16);
}

#[test]
fn a_struct_grows_into_its_reserve() {
    GROW.declare().unwrap();
    let (mut counter, mut total) = (Grown { total: 5, calls: 0, spare: Default::default() }, 0);
    let larger = "total: i64, calls: u32, rate: f32, spare: hotreload::Reserve<20>";
    assert_eq!(load(&rust("larger", "layouts.grow", "Grown", larger)).unwrap_err().code, Code::Layout);
    let grown = "total: i64, calls: u32, rate: f32, spare: hotreload::Reserve<16>";
    load(&rust("grown", "layouts.grow", "Grown", grown)).unwrap();
    GROW.call(&mut counter, &1, &mut total);
    assert_eq!(total, 15);
}

#[test]
fn a_type_that_two_slots_describe_differently_is_an_error() {
    mod other {
        hotreload::layout! {
            pub struct Counter { pub total: i32 }
        }
    }
    static OTHER: Slot<other::Counter, (), ()> = Slot::new(c"layouts.other", |_, _, _| 0).described();
    ADD.declare().unwrap();
    let error = OTHER.declare().unwrap_err();
    assert_eq!(error.code, Code::Usage);
    assert!(error.reason.contains("Counter"), "{error}");
}

hotreload::layout! {
    #[derive(Clone, Copy, Debug, PartialEq)]
    pub struct Kept { pub value: i32 }
}

static KEEP: Slot<Kept, i32, i32> = Slot::new(c"layouts.keep", keep).described();

fn keep(state: &mut Kept, input: &i32, output: &mut i32) -> i32 {
    state.value += input;
    *output = state.value;
    0
}

const MIGRATING: &str = r#"
    hotreload::layout! {
        #[derive(Clone, Copy)]
        #[layout(name = "Kept")]
        pub struct Old { value: i32 }

        #[derive(Clone, Copy)]
        pub struct Kept { scale: f64, value: i32, calls: [u16; 20] }
    }
    fn keep(state: &mut Kept, input: &i32, output: &mut i32) -> i32 {
        state.calls[19] += 1;
        state.value += input * state.scale as i32;
        *output = state.value;
        0
    }
    fn forth(old: &Old) -> Result<Kept, i32> {
        if old.value == FAILS_AT { return Err(7); }
        if old.value == FAILS_AT + 1 { panic!("a migration that panics") }
        Ok(Kept { scale: 100.0, value: old.value, calls: [0; 20] })
    }
    fn back(new: &Kept) -> Result<Old, i32> { Ok(Old { value: new.value + i32::from(new.calls[19]) }) }
    hotreload::patch_module!("keeper", VERSION, [described("layouts.keep", keep)]);
    hotreload::migrations!(forth, back);
"#;

fn migrating(version: u32, fails_at: i32) -> std::path::PathBuf {
    rust_module(
        "keeper",
        &MIGRATING.replace("VERSION", &version.to_string()).replace("FAILS_AT", &fails_at.to_string()),
    )
}

#[test]
fn state_is_migrated_and_back() {
    KEEP.declare().unwrap();
    // SAFETY: no call while this thread loads.
    let mut state = unsafe { hotreload::State::register(Kept { value: 5 }) }.unwrap();
    let mut value = 0;
    let mut call = |state: &mut _, input: i32| {
        assert_eq!(KEEP.call_on(state, &input, &mut value), 0);
        value
    };
    assert_eq!(call(&mut state, 1), 6);
    for (version, fails_at, status) in [(1, 6, "status 7"), (2, 5, "status -131")] {
        let refused = load(&migrating(version, fails_at)).unwrap_err();
        assert_eq!((refused.code, refused.found.as_str()), (Code::Migrate, status), "{refused}");
    }
    assert_eq!(call(&mut state, 1), 7, "state and code are what they were");
    load(&migrating(3, 0)).unwrap();
    assert_eq!(call(&mut state, 1), 107);
    hotreload::rollback(Some("keeper")).unwrap();
    assert_eq!(call(&mut state, 1), 109, "the one call is remembered, and the fallback runs");
    drop(state);
    let refused = load(&migrating(4, 0)).unwrap_err();
    assert_eq!(refused.code, Code::Layout, "without state there is nothing to migrate");
}
