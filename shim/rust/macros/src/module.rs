//! `#[module("name", version)]` with `#[patch("symbol")]`, `#[on_load]` and `#[on_unload]` inside.

use proc_macro2::TokenStream;
use quote::{format_ident, quote, ToTokens};
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Error, Expr, Ident, Item, ItemFn, ItemMod, LitStr, Token};

use crate::shape::Shape;

/// The arguments of `#[module]`.
pub struct Name {
    name: LitStr,
    version: Expr,
}

impl Parse for Name {
    fn parse(input: ParseStream) -> Result<Self, Error> {
        let name = input.parse()?;
        input.parse::<Token![,]>()?;
        let version = input.parse()?;
        input.parse::<Option<Token![,]>>()?;
        Ok(Self { name, version })
    }
}

/// The module as it was, its entries, and the manifest.
pub fn expand(arguments: &Name, mut module: ItemMod) -> Result<TokenStream, Error> {
    let Some((_, items)) = &mut module.content else {
        return Err(Error::new_spanned(&module, "the patches have to be inside: mod patches { ... }"));
    };
    let mut found = Found::default();
    for item in items.iter_mut() {
        if let Item::Fn(function) = item {
            found.look_at(function)?;
        }
    }
    if found.lines.is_empty() {
        return Err(Error::new_spanned(&arguments.name, "no function in here has #[patch(\"symbol\")]"));
    }
    let (name, version) = (&arguments.name, &arguments.version);
    let Found { entries, lines, layouts, on_load, on_unload } = found;
    items.extend(entries.into_iter().map(Item::Verbatim));
    let (on_load, on_unload) = (on_load.into_iter(), on_unload.into_iter());
    items.push(Item::Verbatim(quote! {
        ::hotreload::patch_module!(
            #name, #version, [#(#lines),*] #(, on_load = #on_load)* #(, on_unload = #on_unload)*
        );
        ::hotreload::export_layout! { #(#layouts),* }
    }));
    Ok(module.into_token_stream())
}

#[derive(Default)]
struct Found {
    entries: Vec<TokenStream>,
    lines: Vec<TokenStream>,
    layouts: Vec<TokenStream>,
    on_load: Option<Ident>,
    on_unload: Option<Ident>,
}

impl Found {
    fn look_at(&mut self, function: &mut ItemFn) -> Result<(), Error> {
        for attribute in taken(&mut function.attrs, "patch") {
            let symbol: LitStr = attribute.parse_args()?;
            let entry = format_ident!("hotreload_entry_{}", self.entries.len());
            let shape = Shape::of(&function.sig)?;
            let takes = shape.takes();
            self.entries.push(shape.entry(&entry, &function.sig.ident));
            self.layouts.push(quote!(::hotreload::__layout::entry(concat!(#symbol, "\0"), #takes)));
            self.lines.push(quote!((#symbol, #entry)));
        }
        for (name, hook) in [("on_load", &mut self.on_load), ("on_unload", &mut self.on_unload)] {
            for attribute in taken(&mut function.attrs, name) {
                attribute.meta.require_path_only()?;
                if hook.replace(function.sig.ident.clone()).is_some() {
                    return Err(Error::new_spanned(attribute, format!("there is another #[{name}]")));
                }
            }
        }
        Ok(())
    }
}

/// Takes the attributes of that name away, so that nobody runs them: `#[patch]`, `#[hotreload::patch]`.
fn taken(attributes: &mut Vec<Attribute>, name: &str) -> Vec<Attribute> {
    let (ours, others) = std::mem::take(attributes).into_iter().partition(|attribute: &Attribute| {
        let path = attribute.path();
        let ours = path.segments.len() == 1 || path.segments.first().is_some_and(|first| first.ident == "hotreload");
        ours && path.segments.last().is_some_and(|last| last.ident == name)
    });
    *attributes = others;
    ours
}
