//! What has no fixed layout does not compile, and says why.
#![cfg(all(feature = "macros", feature = "host", not(feature = "off")))]

mod common;

#[test]
fn what_has_no_fixed_layout_does_not_compile() {
    let derive = "#[derive(hotreload::Layout)]";
    let no_repr = "the layout of this type is not fixed: add #[repr(C)]";
    let cases = [
        ("no_repr", format!("{derive} pub struct Voice {{ phase: f32 }}"), no_repr),
        ("repr_rust", format!("{derive} #[repr(Rust)] pub struct Voice {{ phase: f32 }}"), no_repr),
        ("repr_align", format!("{derive} #[repr(align(16))] pub struct Voice {{ phase: f32 }}"), no_repr),
        ("transparent", format!("{derive} #[repr(transparent)] pub struct Voice {{ phase: f32 }}"), no_repr),
        ("union", format!("{derive} pub union Number {{ u: u32 }}"), no_repr),
        ("enumeration", format!("{derive} pub enum Wave {{ Sine, Saw }}"), "this enum is not fixed"),
        ("with_data", format!("{derive} #[repr(C)] pub enum Wave {{ Sine(f32) }}"), "an enum with data has no counterpart"),
        ("tuple", format!("{derive} #[repr(C)] pub struct Pair(f32, f32);"), "give them names"),
        ("generic", format!("{derive} #[repr(C)] pub struct Pair<T> {{ a: T }}"), "a generic type has no one layout"),
        ("nested", format!("pub struct Inner(f32); {derive} #[repr(C)] pub struct Voice {{ inner: Inner }}"),
            "the layout of `Inner` is not described"),
        ("reference", format!("{derive} #[repr(C)] pub struct Voice {{ name: &'static str }}"), "is not described"),
        ("wrong_name", format!("{derive} #[repr(C)] #[layout(rename = \"x\")] pub struct Voice {{ a: u8 }}"),
            "there is #[layout(name"),
        ("made_rust", "hotreload::layout! { #[repr(Rust)] pub struct Voice { a: u8 } }".to_owned(),
            "conflicting representation hints"),
        ("made_enum", "hotreload::layout! { #[repr(align(4))] pub enum Wave { A } }".to_owned(), "none is generic"),
        ("made_data", "hotreload::layout! { pub enum Wave { A(u8) } }".to_owned(), "enums without data"),
        ("made_generic", "hotreload::layout! { pub struct Pair<T> { a: T } }".to_owned(), "none is generic"),
        ("made_string", "hotreload::layout! { pub struct Voice { name: String } }".to_owned(),
            "the layout of `String` is not described"),
        ("argument",
            "fn f(_: &mut String, _: &i64, _: &mut ()) -> i32 { 0 }
             hotreload::patch_module!(\"m\", 1, [described(\"m.f\", f)]);".to_owned(),
            "the layout of `String` is not described"),
        ("misspelled",
            "fn f(_: &mut u8, _: &i64, _: &mut ()) -> i32 { 0 }
             hotreload::patch_module!(\"m\", 1, [describe(\"m.f\", f)]);".to_owned(), "no rules expected"),
        ("two_names",
            "hotreload::layout! { #[derive(Clone, Copy)] pub struct A { a: u8 } #[derive(Clone, Copy)] pub struct B { a: u8 } }
             fn f(_: &A) -> Result<B, i32> { Err(1) }
             hotreload::migrations!(f);".to_owned(), "both layouts are of one name"),
    ];
    for (name, source, expected) in cases {
        let said = common::rejected_module(name, &source);
        assert!(said.contains(expected), "{name}: {said}");
    }
}
