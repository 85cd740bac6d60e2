//! Layouts: a `#[repr(C)]` type described once, for host and modules (the mirror of `layout.h`, and what `describe.h` is
//! in C). A module exports its description as `HOTPATCH_LAYOUT_V1`; the shim compares it with the host's before any code
//! of the module runs.

use core::cell::{Cell, UnsafeCell};
use core::ffi::c_char;
use core::fmt;
use core::mem::{align_of, size_of, ManuallyDrop, MaybeUninit};
use core::ptr::{null, NonNull};
use core::sync::atomic;

pub use crate::spelling::Text;

/// "HPL1", read as a big-endian word.
const MAGIC: u32 = 0x4850_4c31;
const VERSION: u16 = 1;

/// `HR_TYPE_*`.
pub const STRUCT: u32 = 1;
/// See [`STRUCT`].
pub const UNION: u32 = 2;
/// See [`STRUCT`].
pub const ENUM: u32 = 3;
const SCALAR: u32 = 4;
const VOID: u32 = 5;

/// `hr_layout_field_v1`.
#[repr(C)]
pub struct FieldV1 {
    name: *const c_char,
    kind: *const c_char,
    nested: Option<&'static TypeV1>,
    offset: u64,
    size: u64,
    flags: u32,
    reserved: u32,
}

/// `hr_layout_type_v1`.
#[repr(C)]
pub struct TypeV1 {
    name: *const c_char,
    size: u64,
    align: u32,
    kind: u32,
    flags: u32,
    field_count: u32,
    fields: *const FieldV1,
}

/// `hr_layout_entry_v1`: what a slot takes. None: not described, not checked.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct EntryV1 {
    pub(crate) symbol: *const c_char,
    pub(crate) takes: [Option<&'static TypeV1>; 3],
}

/// `hr_layout_v1`.
#[repr(C)]
pub struct LayoutV1 {
    magic: u32,
    version: u16,
    struct_size: u16,
    type_count: u32,
    entry_count: u32,
    types: *const &'static TypeV1,
    entries: *const EntryV1,
}

// SAFETY: descriptions are only ever read, and so is what they point to.
unsafe impl Sync for FieldV1 {}
// SAFETY: as above.
unsafe impl Sync for TypeV1 {}
// SAFETY: as above.
unsafe impl Sync for EntryV1 {}
// SAFETY: as above.
unsafe impl Send for EntryV1 {}
// SAFETY: as above.
unsafe impl Sync for LayoutV1 {}

const _: () = {
    assert!(size_of::<FieldV1>() == 48 && size_of::<TypeV1>() == 40);
    assert!(size_of::<EntryV1>() == 32 && size_of::<LayoutV1>() == 32);
};

impl LayoutV1 {
    /// What slots take. For the macros.
    pub const fn of_entries(entries: &'static [EntryV1]) -> Self {
        Self::new(&[], entries)
    }

    pub(crate) const fn new(types: &'static [&'static TypeV1], entries: &'static [EntryV1]) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            struct_size: size_of::<Self>() as u16,
            type_count: types.len() as u32,
            entry_count: entries.len() as u32,
            types: start(types),
            entries: start(entries),
        }
    }

    /// What one slot takes, for as long as `entry` lives.
    #[cfg(feature = "host")]
    pub(crate) fn of_entry(entry: &EntryV1) -> Self {
        Self { entry_count: 1, entries: entry, ..Self::new(&[], &[]) }
    }
}

/// Null for nothing: an empty slice points to nowhere, which the shim would rightly complain about.
const fn start<T>(items: &'static [T]) -> *const T {
    if items.is_empty() {
        null()
    } else {
        items.as_ptr()
    }
}

/// What a type is as a field. For the macros.
#[derive(Clone, Copy)]
pub struct Shape {
    /// As C spells it, or its elements.
    pub(crate) base: &'static str,
    /// `HR_NUMBER_*`; 0: no number.
    pub(crate) number: u32,
    pub(crate) nested: Option<&'static TypeV1>,
    pub(crate) bounds: [usize; MAX_BOUNDS],
    pub(crate) depth: usize,
}

pub(crate) const MAX_BOUNDS: usize = 6;

impl Shape {
    const fn new(base: &'static str, number: u32, nested: Option<&'static TypeV1>) -> Self {
        Self { base, number, nested, bounds: [0; MAX_BOUNDS], depth: 0 }
    }

    const fn array(mut self, length: usize) -> Self {
        assert!(self.depth < MAX_BOUNDS, "an array has at most 6 bounds");
        let mut at = self.depth;
        while at > 0 {
            self.bounds[at] = self.bounds[at - 1];
            at -= 1;
        }
        self.bounds[0] = length;
        self.depth += 1;
        self
    }
}

/// A type whose layout host and modules can compare: `#[repr(C)]` structs and unions, enums without data, numbers, raw
/// pointers, pointers to C functions, arrays of these, and [`Reserve`].
///
/// [`layout!`](crate::layout) makes such a type and describes it; with the feature `macros`, `#[derive(Layout)]`
/// describes one that says `#[repr(C)]`. Nothing else is needed: slots and modules that are *described*
/// (`Slot::described`, [`patch_module!`](crate::patch_module), and the attribute macros by
/// themselves) carry the description, equal to that of `HR_LAYOUT` in C and C++, and a module that was built with
/// another idea of a type is refused with `E-LAYOUT`.
///
/// # Safety
/// The description is the type's. Do not implement it by hand.
#[diagnostic::on_unimplemented(
    message = "the layout of `{Self}` is not described",
    label = "not described",
    note = "make it with `hotreload::layout! {{ ... }}`, or add `#[derive(hotreload::Layout)]` and `#[repr(C)]`"
)]
pub unsafe trait Layout: Sized {
    /// As a field.
    #[doc(hidden)]
    const SHAPE: Shape;
    /// As what a slot takes; none for what C has no name for (arrays, pointers).
    #[doc(hidden)]
    const TYPE: Option<&'static TypeV1>;
}

macro_rules! scalars {
    ($($kind:ty, $name:literal, $number:literal;)*) => {$(
        // SAFETY: C has the same number under this name.
        unsafe impl Layout for $kind {
            const SHAPE: Shape = Shape::new($name, $number, None);
            const TYPE: Option<&'static TypeV1> = {
                const TYPE: TypeV1 =
                    scalar(concat!($name, "\0"), size_of::<$kind>(), align_of::<$kind>(), SCALAR);
                Some(&TYPE)
            };
        }
    )*};
}

const fn scalar(name: &'static str, size: usize, align: usize, kind: u32) -> TypeV1 {
    let name = name.as_ptr().cast();
    TypeV1 { name, size: size as u64, align: align as u32, kind, flags: 0, field_count: 0, fields: null() }
}

scalars! {
    bool, "bool", 1;
    i8, "int8_t", 3;
    u8, "uint8_t", 4;
    i16, "int16_t", 5;
    u16, "uint16_t", 6;
    i32, "int32_t", 7;
    u32, "uint32_t", 8;
    i64, "int64_t", 9;
    u64, "uint64_t", 10;
    f32, "float", 11;
    f64, "double", 12;
    isize, "ptrdiff_t", 9;
    usize, "size_t", 10;
    atomic::AtomicBool, "bool", 1;
    atomic::AtomicI8, "int8_t", 3;
    atomic::AtomicU8, "uint8_t", 4;
    atomic::AtomicI16, "int16_t", 5;
    atomic::AtomicU16, "uint16_t", 6;
    atomic::AtomicI32, "int32_t", 7;
    atomic::AtomicU32, "uint32_t", 8;
    atomic::AtomicI64, "int64_t", 9;
    atomic::AtomicU64, "uint64_t", 10;
    atomic::AtomicIsize, "ptrdiff_t", 9;
    atomic::AtomicUsize, "size_t", 10;
}

// SAFETY: as an argument, there is none.
unsafe impl Layout for () {
    const SHAPE: Shape = Shape::new("void", 0, None);
    const TYPE: Option<&'static TypeV1> = {
        const TYPE: TypeV1 = scalar("void\0", 0, 1, VOID);
        Some(&TYPE)
    };
}

// SAFETY: elements follow each other, as in C.
unsafe impl<T: Layout, const N: usize> Layout for [T; N] {
    const SHAPE: Shape = T::SHAPE.array(N);
    const TYPE: Option<&'static TypeV1> = None;
}

macro_rules! pointers {
    ($([$($argument:ident),*] $kind:ty;)*) => {$(
        // SAFETY: a pointer in C; how it is spelled says to what.
        unsafe impl<$($argument),*> Layout for $kind {
            const SHAPE: Shape = Shape::new("void *", 0, None);
            const TYPE: Option<&'static TypeV1> = None;
        }
    )*};
}

pointers! {
    [T] *const T;
    [T] *mut T;
    [T] NonNull<T>;
    [T] Option<NonNull<T>>;
}

macro_rules! functions {
    ($(($($argument:ident),*))*) => {$(
        pointers! {
            [R $(, $argument)*] extern "C" fn($($argument),*) -> R;
            [R $(, $argument)*] unsafe extern "C" fn($($argument),*) -> R;
            [R $(, $argument)*] Option<extern "C" fn($($argument),*) -> R>;
            [R $(, $argument)*] Option<unsafe extern "C" fn($($argument),*) -> R>;
        }
    )*};
}

functions! { () (A) (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) }

macro_rules! transparent {
    ($($wrapper:ident)*) => {$(
        // SAFETY: #[repr(transparent)].
        unsafe impl<T: Layout> Layout for $wrapper<T> {
            const SHAPE: Shape = T::SHAPE;
            const TYPE: Option<&'static TypeV1> = T::TYPE;
        }
    )*};
}

transparent! { MaybeUninit ManuallyDrop Cell UnsafeCell }

/// The room that a struct keeps for later, `hr_reserve[N]` in C: its last field. New fields may take its place as long
/// as they lie inside of it, and the size and all fields before stay what they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Reserve<const N: usize>([u8; N]);

impl<const N: usize> Reserve<N> {
    /// Zeros.
    pub const NEW: Self = Self([0; N]);
}

impl<const N: usize> Default for Reserve<N> {
    fn default() -> Self {
        Self::NEW
    }
}

impl<const N: usize> fmt::Debug for Reserve<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Reserve<{N}>")
    }
}

// SAFETY: bytes.
unsafe impl<const N: usize> Layout for Reserve<N> {
    const SHAPE: Shape = Shape::new("hr_reserve", 4, None).array(N);
    const TYPE: Option<&'static TypeV1> = None;
}

// ---- for the macros ----

/// A field: its name (with a zero at the end), what [`Text::spell`] made of its type, where it is.
pub const fn field<T: Layout>(name: &'static str, spelled: &'static [u8], number: u32, offset: usize) -> FieldV1 {
    let (kind, nested) = (spelled.as_ptr().cast(), T::SHAPE.nested);
    FieldV1 {
        name: plain(name),
        kind,
        nested,
        offset: offset as u64,
        size: size_of::<T>() as u64,
        flags: number,
        reserved: 0,
    }
}

/// An enumerator.
pub const fn enumerator(name: &'static str, value: i128) -> FieldV1 {
    let kind = c"".as_ptr();
    FieldV1 { name: plain(name), kind, nested: None, offset: value as u64, size: 0, flags: 0, reserved: 0 }
}

/// `r#type` is called `type`.
const fn plain(name: &'static str) -> *const c_char {
    let bytes = name.as_bytes();
    let raw = bytes.len() > 2 && bytes[0] == b'r' && bytes[1] == b'#';
    // SAFETY: inside of the text, which is longer.
    unsafe { bytes.as_ptr().add(if raw { 2 } else { 0 }) }.cast()
}

/// A struct, a union or an enum; `name` ends in a zero.
pub const fn described<T>(name: &'static str, kind: u32, fields: &'static [FieldV1]) -> TypeV1 {
    assert!(name.len() > 1 && name.len() <= 256, "a type's name has 1 to 255 bytes");
    TypeV1 {
        name: plain(name),
        size: size_of::<T>() as u64,
        align: align_of::<T>() as u32,
        kind,
        flags: 0,
        field_count: fields.len() as u32,
        fields: start(fields),
    }
}

/// The shape of a struct or a union.
pub const fn nested(name: &'static str, described: &'static TypeV1) -> Shape {
    Shape::new(name, 0, Some(described))
}

/// The shape of an enum; its number is the one that C's compilers take for it.
pub const fn nested_enum(name: &'static str, described: &'static TypeV1, negative: bool) -> Shape {
    let number = match described.size {
        1 => 4,
        2 => 6,
        4 => 8,
        _ => 10,
    };
    Shape::new(name, number - negative as u32, Some(described))
}

/// What a slot takes, where all of it is described; `symbol` ends in a zero.
pub const fn takes<S: Layout, I: Layout, O: Layout, F>(symbol: &'static str, _function: F) -> EntryV1
where
    F: Fn(&mut S, &I, &mut O) -> i32 + Copy + Send + Sync + 'static,
{
    entry(symbol, [S::TYPE, I::TYPE, O::TYPE])
}

/// What a slot takes; `symbol` ends in a zero.
pub const fn entry(symbol: &'static str, takes: [Option<&'static TypeV1>; 3]) -> EntryV1 {
    EntryV1 { symbol: symbol.as_ptr().cast(), takes }
}

/// Whether a type is described, asked where its name is known: the inherent constant comes first, where it is one.
pub struct Probe<T>(core::marker::PhantomData<T>);

impl<T: Layout> Probe<T> {
    /// Its description.
    pub const TYPE: Option<&'static TypeV1> = T::TYPE;
}

/// The answer for all other types.
pub trait Undescribed {
    /// None.
    const TYPE: Option<&'static TypeV1> = None;
}

impl<T> Undescribed for Probe<T> {}

/// A description of one type and of all that it holds.
pub(crate) struct Alone<T>(core::marker::PhantomData<T>);

impl<T: Layout> Alone<T> {
    const TYPE: &'static TypeV1 = match T::TYPE {
        Some(described) if described.kind == STRUCT || described.kind == UNION => described,
        _ => panic!("a struct or a union is needed"),
    };
    const TYPES: &'static [&'static TypeV1] = &[Self::TYPE];
    pub(crate) const LAYOUT: &'static LayoutV1 = &LayoutV1::new(Self::TYPES, &[]);
}

/// The name under which a struct or a union is described, for C.
pub(crate) const fn name_of<T: Layout>() -> *const c_char {
    Alone::<T>::TYPE.name
}

/// Makes `#[repr(C)]` structs, unions and enums, and describes them, once for host and modules: in a crate that both
/// use, or in a file that both include.
///
/// ```
/// hotreload::layout! {
///     #[derive(Clone, Copy, Debug, Default)]
///     pub enum Wave {
///         #[default]
///         Sine,
///         Saw = 5,
///     }
///
///     /// What a voice of the synthesizer keeps.
///     #[derive(Clone, Copy, Debug, Default)]
///     pub struct Voice {
///         pub phase: f32,
///         pub taps: [f32; 16],
///         pub wave: Wave,
///         pub spare: hotreload::Reserve<52>, // room for later fields
///     }
/// }
/// ```
///
/// Everything that is inside becomes `#[repr(C)]` (an enum may say `#[repr(u8)]` or its like). Fields are what
/// [`Layout`] lists; what has no fixed layout does not compile:
///
/// ```compile_fail
/// hotreload::layout! {
///     pub struct Voice { name: String }
/// }
/// ```
/// ```compile_fail
/// struct Envelope { level: f32 } // not #[repr(C)], and not described
/// hotreload::layout! {
///     pub struct Voice { envelope: Envelope }
/// }
/// ```
/// ```compile_fail
/// hotreload::layout! {
///     #[repr(Rust)]
///     pub struct Voice { phase: f32 }
/// }
/// ```
///
/// `#[layout(name = "Voice")]` describes a type under another name: that of the C header that it mirrors, or that of the
/// newer type, for an old version that a [migration](crate::migrations) starts from. Enumerators have the names of
/// the C header (`#[derive(Layout)]` can give them others).
#[macro_export]
macro_rules! layout {
    ($($items:tt)*) => {
        $crate::__layout_items! { [] [] [] $($items)* }
    };
}

/// Reads one item: its attributes go into [others] [repr] [name].
#[doc(hidden)]
#[macro_export]
macro_rules! __layout_items {
    ([] [] []) => {};
    ([$($other:tt)*] [$($repr:tt)*] [] #[layout(name = $name:literal)] $($rest:tt)*) => {
        $crate::__layout_items! { [$($other)*] [$($repr)*] [$name] $($rest)* }
    };
    ([$($other:tt)*] [] [$($name:literal)?] #[repr($($repr:tt)*)] $($rest:tt)*) => {
        $crate::__layout_items! { [$($other)*] [$($repr)*] [$($name)?] $($rest)* }
    };
    ([$($other:tt)*] [$($repr:tt)*] [$($name:literal)?] #[$($attribute:tt)*] $($rest:tt)*) => {
        $crate::__layout_items! { [$($other)* #[$($attribute)*]] [$($repr)*] [$($name)?] $($rest)* }
    };
    ([$($other:tt)*] [$($repr:tt)*] [$($given:literal)?] $visibility:vis struct $name:ident {
        $($(#[$($about:tt)*])* $field_visibility:vis $field:ident : $kind:ty),* $(,)?
    } $($rest:tt)*) => {
        #[repr(C)]
        #[repr($($repr)*)]
        $($other)*
        $visibility struct $name {
            $($(#[$($about)*])* $field_visibility $field: $kind),*
        }
        $crate::__layout_describe! { struct $name [$($given)?] { $($field [] $kind;)* } }
        $crate::__layout_items! { [] [] [] $($rest)* }
    };
    ([$($other:tt)*] [$($repr:tt)*] [$($given:literal)?] $visibility:vis union $name:ident {
        $($(#[$($about:tt)*])* $field_visibility:vis $field:ident : $kind:ty),* $(,)?
    } $($rest:tt)*) => {
        #[repr(C)]
        #[repr($($repr)*)]
        $($other)*
        $visibility union $name {
            $($(#[$($about)*])* $field_visibility $field: $kind),*
        }
        $crate::__layout_describe! { union $name [$($given)?] { $($field [] $kind;)* } }
        $crate::__layout_items! { [] [] [] $($rest)* }
    };
    ([$($other:tt)*] [] [$($given:literal)?] $visibility:vis enum $($rest:tt)*) => {
        $crate::__layout_items! { [$($other)*] [C] [$($given)?] $visibility enum $($rest)* }
    };
    ([$($other:tt)*] [$repr:ident] [$($given:literal)?] $visibility:vis enum $name:ident {
        $($(#[$($about:tt)*])* $variant:ident $(= $value:expr)?),* $(,)?
    } $($rest:tt)*) => {
        #[repr($repr)]
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        $($other)*
        $visibility enum $name {
            $($(#[$($about)*])* $variant $(= $value)?),*
        }
        $crate::__layout_describe! { enum $name [$($given)?] { $($variant [];)* } }
        $crate::__layout_items! { [] [] [] $($rest)* }
    };
    ([$($other:tt)*] [$($repr:tt)*] [$($name:tt)*] $($rest:tt)*) => {
        compile_error!("layout! takes structs and unions with named fields, and enums without data; none is generic");
    };
}

/// What `layout!` and `#[derive(Layout)]` share: the description of one type. [] holds a name that replaces the own.
#[doc(hidden)]
#[macro_export]
macro_rules! __layout_describe {
    (enum $name:ident [$($given:literal)?] { $($variant:ident [$($called:literal)?];)* }) => {
        #[doc(hidden)]
        const _: () = {
            use $crate::__layout as layout;
            const FIELDS: &[layout::FieldV1] = &[$(
                layout::enumerator(
                    concat!($crate::__layout_name!($variant $($called)?), "\0"), $name::$variant as i128,
                )
            ),*];
            const NEGATIVE: bool = false $(|| ($name::$variant as i128) < 0)*;
            const TYPE: &layout::TypeV1 = &layout::described::<$name>(
                concat!($crate::__layout_name!($name $($given)?), "\0"), layout::ENUM, FIELDS,
            );
            // SAFETY: an enum without data (else it would have no value), with the representation that C gives it.
            #[allow(unsafe_code)]
            unsafe impl $crate::Layout for $name {
                const SHAPE: layout::Shape =
                    layout::nested_enum($crate::__layout_name!($name $($given)?), TYPE, NEGATIVE);
                const TYPE: ::core::option::Option<&'static layout::TypeV1> = ::core::option::Option::Some(TYPE);
            }
        };
    };
    ($item:ident $name:ident [$($given:literal)?] { $($field:ident [$($called:literal)?] $kind:ty;)* }) => {
        #[doc(hidden)]
        const _: () = {
            use $crate::__layout as layout;
            const FIELDS: &[layout::FieldV1] = &[$({
                const TEXT: layout::Text =
                    layout::Text::spell(stringify!($kind), &<$kind as $crate::Layout>::SHAPE);
                const SPELLED: [u8; TEXT.size()] = TEXT.cut();
                layout::field::<$kind>(
                    concat!($crate::__layout_name!($field $($called)?), "\0"),
                    &SPELLED,
                    TEXT.number(),
                    ::core::mem::offset_of!($name, $field),
                )
            }),*];
            const TYPE: &layout::TypeV1 = &layout::described::<$name>(
                concat!($crate::__layout_name!($name $($given)?), "\0"),
                $crate::__layout_kind!($item),
                FIELDS,
            );
            // SAFETY: #[repr(C)], as its maker has seen to; each field is described.
            #[allow(unsafe_code)]
            unsafe impl $crate::Layout for $name {
                const SHAPE: layout::Shape = layout::nested($crate::__layout_name!($name $($given)?), TYPE);
                const TYPE: ::core::option::Option<&'static layout::TypeV1> = ::core::option::Option::Some(TYPE);
            }
        };
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __layout_name {
    ($own:ident) => {
        stringify!($own)
    };
    ($own:ident $given:literal) => {
        $given
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __layout_kind {
    (struct) => {
        $crate::__layout::STRUCT
    };
    (union) => {
        $crate::__layout::UNION
    };
}
