//! `#[derive(Layout)]`: checks that the type's layout is fixed, and has the crate's macro describe it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Data, DataEnum, DeriveInput, Error, Field, Fields, Ident, LitStr};

const NO_REPR: &str = "the layout of this type is not fixed: add #[repr(C)]";
const INTEGERS: [&str; 10] = ["u8", "u16", "u32", "u64", "usize", "i8", "i16", "i32", "i64", "isize"];

/// The description of a struct, a union or an enum.
pub fn expand(input: &DeriveInput) -> Result<TokenStream, Error> {
    if !input.generics.params.is_empty() {
        return Err(Error::new_spanned(&input.generics, "a generic type has no one layout: describe types that have"));
    }
    let (name, given) = (&input.ident, given_name(&input.attrs)?);
    let (item, rows) = match &input.data {
        Data::Struct(data) => (quote!(struct), rows(input, &data.fields)?),
        Data::Union(data) => (quote!(union), rows(input, &Fields::Named(data.fields.clone()))?),
        Data::Enum(data) => (quote!(enum), variants(input, data)?),
    };
    Ok(quote!(::hotreload::__layout_describe! { #item #name [#given] { #rows } }))
}

fn rows(input: &DeriveInput, fields: &Fields) -> Result<TokenStream, Error> {
    if !representation(input)?.iter().any(|word| word == "C") {
        return Err(Error::new_spanned(&input.ident, NO_REPR));
    }
    match fields {
        Fields::Named(fields) => fields.named.iter().map(row).collect(),
        Fields::Unit => Ok(TokenStream::new()),
        Fields::Unnamed(_) => Err(Error::new_spanned(fields, "fields are compared by name: give them names")),
    }
}

fn row(field: &Field) -> Result<TokenStream, Error> {
    let (name, given, kind) = (&field.ident, given_name(&field.attrs)?, &field.ty);
    Ok(quote!(#name [#given] #kind;))
}

fn variants(input: &DeriveInput, data: &DataEnum) -> Result<TokenStream, Error> {
    if !representation(input)?.iter().any(|word| word == "C" || INTEGERS.iter().any(|name| word == name)) {
        return Err(Error::new_spanned(
            &input.ident,
            "the layout of this enum is not fixed: add #[repr(C)] or #[repr(u8)]",
        ));
    }
    let mut rows = TokenStream::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            return Err(Error::new_spanned(
                variant,
                "an enum with data has no counterpart in C: use a tag and a union",
            ));
        }
        let (name, given) = (&variant.ident, given_name(&variant.attrs)?);
        rows.extend(quote!(#name [#given];));
    }
    Ok(rows)
}

/// The words of all `#[repr(...)]`.
fn representation(input: &DeriveInput) -> Result<Vec<Ident>, Error> {
    let mut words = Vec::new();
    for attribute in input.attrs.iter().filter(|attribute| attribute.path().is_ident("repr")) {
        attribute.parse_nested_meta(|meta| {
            words.extend(meta.path.get_ident().cloned());
            if meta.input.peek(syn::token::Paren) {
                let inside;
                syn::parenthesized!(inside in meta.input);
                inside.parse::<TokenStream>()?;
            }
            Ok(())
        })?;
    }
    Ok(words)
}

/// `#[layout(name = "...")]`.
fn given_name(attributes: &[Attribute]) -> Result<Option<LitStr>, Error> {
    let mut given = None;
    for attribute in attributes.iter().filter(|attribute| attribute.path().is_ident("layout")) {
        attribute.parse_nested_meta(|meta| {
            if !meta.path.is_ident("name") {
                return Err(meta.error("there is #[layout(name = \"...\")] only"));
            }
            given = Some(meta.value()?.parse()?);
            Ok(())
        })?;
    }
    Ok(given)
}
