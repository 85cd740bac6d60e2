//! What a function's signature says about the slot: the types of state, input and output, and how to get from the
//! function to an entry and back.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{parse_quote, Error, FnArg, GenericArgument, Ident, PathArguments, ReturnType, Signature, Type};

const FORMS: &str = "a slot's function is fn([&mut State] [, &Input or Input]) [-> Output or Result<Output, i32>], or \
                     fn(&mut State, &Input, &mut Output) -> i32; put several inputs into a struct";

/// How a function gives its output and its status.
pub enum Returns {
    /// `-> Output`, or nothing.
    Value,
    /// `-> Result<Output, i32>`: the error is the status.
    Result,
    /// Output behind the third parameter, and `-> i32`: the status.
    Status,
}

/// A slot's types, as one function has them.
pub struct Shape {
    pub state: Type,
    pub input: Type,
    /// Without `MaybeUninit`.
    pub output: Type,
    pub returns: Returns,
    has_state: bool,
    /// None: there is none. True: it is passed by value.
    input_by_value: Option<bool>,
}

impl Shape {
    /// Reads a signature; the error says which ones there are.
    pub fn of(signature: &Signature) -> Result<Self, Error> {
        refuse_what_no_slot_can_be(signature)?;
        let mut parameters = Vec::new();
        for parameter in &signature.inputs {
            match parameter {
                FnArg::Typed(typed) => parameters.push(&*typed.ty),
                FnArg::Receiver(_) => return Err(Error::new_spanned(parameter, FORMS)),
            }
        }
        if let [first, second, third] = parameters[..] {
            return Self::with_status(signature, first, second, third);
        }
        let state = parameters.first().and_then(|first| exclusive(first));
        let rest = &parameters[usize::from(state.is_some())..];
        let (input, input_by_value) = match rest {
            [] => (None, None),
            [one] if exclusive(one).is_none() => match shared(one) {
                Some(target) => (Some(target), Some(false)),
                None => (Some(*one), Some(true)),
            },
            _ => return Err(Error::new_spanned(&signature.inputs, FORMS)),
        };
        let (output, returns) = returned(&signature.output);
        let none = || parse_quote!(());
        Ok(Self {
            state: state.cloned().unwrap_or_else(none),
            input: input.cloned().unwrap_or_else(none),
            output,
            returns,
            has_state: state.is_some(),
            input_by_value,
        })
    }

    fn with_status(signature: &Signature, first: &Type, second: &Type, third: &Type) -> Result<Self, Error> {
        let (Some(state), Some(input), Some(output)) = (exclusive(first), shared(second), exclusive(third)) else {
            return Err(Error::new_spanned(&signature.inputs, FORMS));
        };
        match &signature.output {
            ReturnType::Type(_, kind) if is_i32(kind) => {}
            _ => return Err(Error::new_spanned(signature, FORMS)),
        }
        Ok(Self {
            state: state.clone(),
            input: input.clone(),
            output: output.clone(),
            returns: Returns::Status,
            has_state: true,
            input_by_value: Some(false),
        })
    }

    /// The type of the slot's output: what the entry writes need not be anything before.
    pub fn slot_output(&self) -> TokenStream {
        let output = &self.output;
        match self.returns {
            Returns::Status => quote!(#output),
            _ => quote!(::core::mem::MaybeUninit<#output>),
        }
    }

    /// The layouts of state, input and output, each where it is described.
    pub fn takes(&self) -> TokenStream {
        let kinds = [&self.state, &self.input, &self.output];
        quote!([#(::hotreload::__type_of!(#kinds)),*])
    }

    /// `fn #name(&mut State, &Input, &mut Output) -> i32`, which calls `function`.
    pub fn entry(&self, name: &Ident, function: &Ident) -> TokenStream {
        let (state, input, output) = (&self.state, &self.input, self.slot_output());
        let mut arguments = Vec::new();
        if self.has_state {
            arguments.push(quote!(state));
        }
        match self.input_by_value {
            Some(true) => arguments.push(quote!(*input)),
            Some(false) => arguments.push(quote!(input)),
            None => {}
        }
        let call = match self.returns {
            Returns::Status => quote!(#function(state, input, output)),
            Returns::Value => quote!(::hotreload::__macros::give(output, #function(#(#arguments),*))),
            Returns::Result => quote!(::hotreload::__macros::give_result(output, #function(#(#arguments),*))),
        };
        quote! {
            #[allow(unused_variables, clippy::trivially_copy_pass_by_ref, clippy::ptr_arg, clippy::unit_arg)]
            fn #name(state: &mut #state, input: &#input, output: &mut #output) -> i32 { #call }
        }
    }

    /// The call of `slot` with the function's own parameters, as the body of the function that has its name.
    pub fn body(&self, slot: &TokenStream, parameters: &[Ident]) -> TokenStream {
        let mut rest = parameters.iter();
        let state = if self.has_state { rest.next().map(|name| quote!(#name)) } else { None };
        let input = match (self.input_by_value, rest.next()) {
            (Some(true), Some(name)) => quote!(&#name),
            (Some(false), Some(name)) => quote!(#name),
            _ => quote!(&()),
        };
        let state = state.unwrap_or_else(|| quote!(&mut ()));
        match (&self.returns, rest.next()) {
            (Returns::Status, Some(output)) => quote!(#slot.call(#state, #input, #output)),
            (Returns::Result, _) => quote!(::hotreload::__macros::call(#slot, #state, #input)),
            _ => quote!(::hotreload::__macros::value(#slot, ::hotreload::__macros::call(#slot, #state, #input))),
        }
    }
}

fn refuse_what_no_slot_can_be(signature: &Signature) -> Result<(), Error> {
    let odd = signature.constness.is_some()
        || signature.asyncness.is_some()
        || signature.unsafety.is_some()
        || signature.abi.is_some()
        || signature.variadic.is_some();
    if odd {
        return Err(Error::new_spanned(signature, "a slot's function is a plain, safe Rust function"));
    }
    if !signature.generics.params.is_empty() {
        let text = "a slot has one type: its function cannot be generic (lifetimes can be left out)";
        return Err(Error::new_spanned(&signature.generics, text));
    }
    Ok(())
}

/// What `&mut T` refers to.
fn exclusive(kind: &Type) -> Option<&Type> {
    match kind {
        Type::Reference(reference) if reference.mutability.is_some() => Some(&reference.elem),
        _ => None,
    }
}

/// What `&T` refers to.
fn shared(kind: &Type) -> Option<&Type> {
    match kind {
        Type::Reference(reference) if reference.mutability.is_none() => Some(&reference.elem),
        _ => None,
    }
}

fn returned(output: &ReturnType) -> (Type, Returns) {
    match output {
        ReturnType::Default => (parse_quote!(()), Returns::Value),
        ReturnType::Type(_, kind) => match result_of_status(kind) {
            Some(value) => (value.clone(), Returns::Result),
            None => ((**kind).clone(), Returns::Value),
        },
    }
}

/// `Value` of `Result<Value, i32>`, however `Result` is written.
fn result_of_status(kind: &Type) -> Option<&Type> {
    let Type::Path(path) = kind else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == "Result")?;
    let PathArguments::AngleBracketed(arguments) = &last.arguments else { return None };
    let mut arguments = arguments.args.iter();
    match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(GenericArgument::Type(value)), Some(GenericArgument::Type(error)), None) if is_i32(error) => Some(value),
        _ => None,
    }
}

fn is_i32(kind: &Type) -> bool {
    matches!(kind, Type::Path(path) if path.path.is_ident("i32"))
}
