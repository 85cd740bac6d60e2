//! `#[slot("symbol")]`.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{Error, FnArg, Ident, ItemFn, LitStr, Pat};

use crate::shape::Shape;

/// The function calls its slot, whose fallback is what the function was; a type of the same name declares the slot.
pub fn expand(symbol: &LitStr, mut function: ItemFn) -> Result<TokenStream, Error> {
    let shape = Shape::of(&function.sig)?;
    let (visibility, attributes) = (function.vis.clone(), std::mem::take(&mut function.attrs));
    let name = function.sig.ident.clone();
    let (fallback, entry) = (format_ident!("fallback"), format_ident!("entry"));

    let mut public = function.sig.clone();
    let parameters = renamed(&mut public.inputs)?;
    let slot = quote!(#name::slot());
    let body = shape.body(&slot, &parameters);

    function.vis = syn::Visibility::Inherited;
    function.sig.ident = fallback.clone();
    let entry_function = shape.entry(&entry, &fallback);
    let (state, input, output) = (&shape.state, &shape.input, shape.slot_output());
    let takes = shape.takes();
    let kind = quote!(::hotreload::Slot<#state, #input, #output>);
    let about = format!("The slot `{}` behind the function of this name.", symbol.value());
    Ok(quote! {
        #(#attributes)*
        #visibility #public { #body }

        // An enum: a struct would take the function's name as well.
        #[doc = #about]
        #[allow(non_camel_case_types, dead_code)]
        #visibility enum #name {}

        #[allow(dead_code)]
        impl #name {
            /// The slot itself: for frames, and for its symbol.
            #visibility fn slot() -> &'static #kind {
                #[allow(clippy::ptr_arg, clippy::needless_pass_by_ref_mut)]
                #function
                #entry_function
                static SLOT: #kind = ::hotreload::Slot::new(
                    match ::core::ffi::CStr::from_bytes_with_nul(concat!(#symbol, "\0").as_bytes()) {
                        Ok(symbol) => symbol,
                        Err(_) => panic!("a symbol holds no zero byte"),
                    },
                    entry,
                )
                .__taking(#takes);
                &SLOT
            }

            /// Makes the slot known to modules and to `hotreload watch`. Do it for all slots at the start.
            ///
            /// # Errors
            /// As those of [`Slot::declare`](::hotreload::Slot::declare).
            #visibility fn declare() -> ::core::result::Result<(), ::hotreload::Error> {
                Self::slot().declare()
            }
        }
    })
}

/// Names for all parameters, whatever patterns they have: `mut x`, `_` and `(a, b)` are the fallback's affair.
fn renamed(inputs: &mut syn::punctuated::Punctuated<FnArg, syn::Token![,]>) -> Result<Vec<Ident>, Error> {
    let mut names = Vec::new();
    for (number, parameter) in inputs.iter_mut().enumerate() {
        let FnArg::Typed(typed) = parameter else { continue };
        let name = match &*typed.pat {
            Pat::Ident(pattern) if pattern.subpat.is_none() && pattern.by_ref.is_none() => pattern.ident.clone(),
            _ => format_ident!("parameter_{number}"),
        };
        typed.attrs.clear();
        *typed.pat = syn::parse_quote!(#name);
        names.push(name);
    }
    Ok(names)
}
