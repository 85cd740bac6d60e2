//! How C spells a field's type, from how Rust does: `[f32; 16]` is `float[16]`, `*mut Voice` is `Voice *`.
//!
//! The words of the source are kept, as C's macros keep them: a type alias is told by its own name, like a typedef. All
//! of it runs at compile time.

use crate::layout::Shape;

/// `HR_TYPE_NAME_MAX`, and a zero.
const SIZE: usize = 256;
const CHAR: u32 = 2;

/// A text that is made at compile time.
#[derive(Clone, Copy)]
pub struct Text {
    bytes: [u8; SIZE],
    length: usize,
    number: u32,
}

/// A part of a text, by its bounds: slices cannot be cut at compile time on the oldest compiler that we support.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a [u8],
    start: usize,
    end: usize,
}

impl<'a> Part<'a> {
    const fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), start: 0, end: text.len() }.trimmed()
    }

    const fn at(&self, index: usize) -> u8 {
        if self.start + index < self.end {
            self.text[self.start + index]
        } else {
            0
        }
    }

    const fn cut(self, start: usize, end: usize) -> Self {
        Self { text: self.text, start, end }.trimmed()
    }

    const fn trimmed(mut self) -> Self {
        while self.start < self.end && self.text[self.start] == b' ' {
            self.start += 1;
        }
        while self.start < self.end && self.text[self.end - 1] == b' ' {
            self.end -= 1;
        }
        self
    }

    const fn starts_with(&self, word: &str) -> bool {
        let word = word.as_bytes();
        let mut at = 0;
        while at < word.len() {
            if self.at(at) != word[at] {
                return false;
            }
            at += 1;
        }
        true
    }

    const fn is(&self, word: &str) -> bool {
        self.end - self.start == word.len() && self.starts_with(word)
    }

    const fn find(&self, byte: u8) -> Option<usize> {
        let mut at = self.start;
        while at < self.end {
            if self.text[at] == byte {
                return Some(at);
            }
            at += 1;
        }
        None
    }

    /// `[T; N]`: T, or None.
    const fn element(self) -> Option<Self> {
        if self.at(0) != b'[' {
            return None;
        }
        let mut at = self.end;
        while at > self.start && self.text[at - 1] != b';' {
            at -= 1;
        }
        Some(self.cut(self.start + 1, if at > self.start { at - 1 } else { self.end - 1 }))
    }

    /// `Name<T>`: T.
    const fn argument(self, name: &str) -> Option<Self> {
        match self.find(b'<') {
            Some(open) if self.cut(self.start, open).last_segment().is(name) => Some(self.cut(open + 1, self.end - 1)),
            _ => None,
        }
    }

    const fn last_segment(self) -> Self {
        let mut at = self.end;
        while at > self.start && self.text[at - 1] != b':' {
            at -= 1;
        }
        let last = self.cut(at, self.end);
        if last.starts_with("r#") {
            last.cut(last.start + 2, last.end)
        } else {
            last
        }
    }
}

impl Text {
    const EMPTY: Self = Self { bytes: [0; SIZE], length: 0, number: 0 };

    /// The type that `source` names, whose shape is known.
    pub const fn spell(source: &str, shape: &Shape) -> Self {
        let (mut element, mut depth) = (Part::new(source), 0);
        while let Some(inner) = element.element() {
            element = inner;
            depth += 1;
        }
        let mut text = Self::EMPTY;
        text.number = shape.number;
        // An alias that hides an array, a described type, a wrapper: what the type itself says.
        if depth != shape.depth || shape.nested.is_some() {
            text = text.push(Part::new(shape.base));
        } else if element.at(0) == b'*' || element.argument("NonNull").is_some() || element.argument("Option").is_some()
        {
            text = text.pointer(element);
        } else if element.find(b'<').is_some()
            || element.find(b'(').is_some()
            || element.last_segment().starts_with("Atomic")
        {
            text = text.push(Part::new(shape.base));
        } else {
            let name = element.last_segment();
            if name.is("c_char") {
                text.number = CHAR;
            }
            text = text.push_c_name(name);
        }
        let mut at = 0;
        while at < shape.depth {
            text = text.push_byte(b'[').push_number(shape.bounds[at]).push_byte(b']');
            at += 1;
        }
        text
    }

    /// Bytes, with the zero at the end.
    pub const fn size(&self) -> usize {
        self.length + 1
    }

    /// `HR_NUMBER_*`.
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// The text in as many bytes as it has.
    pub const fn cut<const N: usize>(&self) -> [u8; N] {
        let (mut bytes, mut at) = ([0; N], 0);
        while at < self.length {
            bytes[at] = self.bytes[at];
            at += 1;
        }
        bytes
    }

    /// `*const *mut T`, `Option<NonNull<T>>`, `Option<extern "C" fn(T)>`.
    const fn pointer(self, source: Part) -> Self {
        let (mut target, mut stars, mut constant) = (source, 0, false);
        loop {
            if target.starts_with("*") {
                let rest = target.cut(target.start + 1, target.end);
                constant = rest.starts_with("const ");
                target = rest.cut(rest.start + if constant { 5 } else { 3 }, rest.end);
                stars += 1;
            } else if let Some(inner) = target.argument("NonNull") {
                (target, constant) = (inner, false);
                stars += 1;
            } else if let Some(inner) = target.argument("Option") {
                target = inner;
            } else {
                break;
            }
        }
        let function = target.find(b'(').is_some();
        let mut text = if constant && !function { self.push(Part::new("const")).push_byte(b' ') } else { self };
        text = if function {
            text.push(Part::new("function"))
        } else if target.find(b'<').is_some() || target.at(0) == b'[' {
            text.push(target)
        } else {
            text.push_c_name(target.last_segment())
        };
        if stars > 0 {
            text = text.push_byte(b' ');
        }
        while stars > 0 {
            text = text.push_byte(b'*');
            stars -= 1;
        }
        text
    }

    const fn push_c_name(self, name: Part) -> Self {
        const NAMES: [(&str, &str); 23] = [
            ("i8", "int8_t"),
            ("u8", "uint8_t"),
            ("i16", "int16_t"),
            ("u16", "uint16_t"),
            ("i32", "int32_t"),
            ("u32", "uint32_t"),
            ("i64", "int64_t"),
            ("u64", "uint64_t"),
            ("isize", "ptrdiff_t"),
            ("usize", "size_t"),
            ("f32", "float"),
            ("f64", "double"),
            ("c_char", "char"),
            ("c_schar", "signed char"),
            ("c_uchar", "unsigned char"),
            ("c_short", "short"),
            ("c_ushort", "unsigned short"),
            ("c_int", "int"),
            ("c_uint", "unsigned"),
            ("c_long", "long"),
            ("c_ulong", "unsigned long"),
            ("c_float", "float"),
            ("c_double", "double"),
        ];
        let mut at = 0;
        while at < NAMES.len() {
            if name.is(NAMES[at].0) {
                return self.push(Part::new(NAMES[at].1));
            }
            at += 1;
        }
        self.push(if name.is("c_void") { Part::new("void") } else { name })
    }

    const fn push(mut self, part: Part) -> Self {
        let mut at = part.start;
        while at < part.end {
            self = self.push_byte(part.text[at]);
            at += 1;
        }
        self
    }

    const fn push_byte(mut self, byte: u8) -> Self {
        assert!(self.length + 1 < SIZE, "a type's name has 1 to 255 bytes");
        self.bytes[self.length] = byte;
        self.length += 1;
        self
    }

    const fn push_number(self, number: usize) -> Self {
        let text = if number >= 10 { self.push_number(number / 10) } else { self };
        text.push_byte(b'0' + (number % 10) as u8)
    }
}
