//! The attribute macros of the crate `hotreload`, which re-exports them under its feature `macros` and documents them.
//!
//! `shape` reads a function's signature; `slot` and `module` write code that uses the crate's public API, and no
//! `unsafe`, so that they work in crates that forbid it. `layout` is the derive: it checks, the crate's macro describes.
#![deny(missing_docs)]

mod layout;
mod module;
mod shape;
mod slot;

use proc_macro::TokenStream;
use syn::{parse_macro_input, Error, Item, LitStr};

/// Makes a host's function a slot: its own fallback, called under its own name.
///
/// See the crate `hotreload`.
#[proc_macro_attribute]
pub fn slot(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let symbol = parse_macro_input!(arguments as LitStr);
    let function = parse_macro_input!(item as syn::ItemFn);
    slot::expand(&symbol, function).unwrap_or_else(Error::into_compile_error).into()
}

/// Makes an inline Rust module a patch module: exports its manifest, whose entries are its `#[patch("symbol")]`
/// functions.
///
/// See the crate `hotreload`.
#[proc_macro_attribute]
pub fn module(arguments: TokenStream, item: TokenStream) -> TokenStream {
    let name = parse_macro_input!(arguments as module::Name);
    let module = parse_macro_input!(item as syn::ItemMod);
    module::expand(&name, module).unwrap_or_else(Error::into_compile_error).into()
}

/// Marks a function inside of a `#[module("name", version)]` as the implementation of a slot.
///
/// See the crate `hotreload`.
#[proc_macro_attribute]
pub fn patch(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    misplaced("patch", item)
}

/// Marks the `on_load` function inside of a `#[module("name", version)]`.
///
/// See the crate `hotreload`.
#[proc_macro_attribute]
pub fn on_load(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    misplaced("on_load", item)
}

/// Marks the `on_unload` function inside of a `#[module("name", version)]`.
///
/// See the crate `hotreload`.
#[proc_macro_attribute]
pub fn on_unload(_arguments: TokenStream, item: TokenStream) -> TokenStream {
    misplaced("on_unload", item)
}

/// Describes a `#[repr(C)]` struct or union, or an enum without data, for host and modules.
///
/// See the crate `hotreload`.
#[proc_macro_derive(Layout, attributes(layout))]
pub fn layout(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as syn::DeriveInput);
    layout::expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

/// `module` takes these attributes away before they are run; one that runs stands somewhere else.
fn misplaced(name: &str, item: TokenStream) -> TokenStream {
    let item = parse_macro_input!(item as Item);
    let text =
        format!("#[{name}] belongs to a function in `#[hotreload::module(\"name\", version)] mod patches {{ ... }}`");
    Error::new_spanned(item, text).into_compile_error().into()
}
