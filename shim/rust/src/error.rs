//! Why something was refused: the stable code, what was found and expected, and the cure.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;

/// The stable codes of DESIGN.md section 5, and those of a caller's own mistakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Code {
    /// `E-IO`: the file cannot be opened or copied.
    Io,
    /// `E-DENIED`: owner or permissions would let someone else's code in.
    Denied,
    /// `E-NOT-ELF`: not a shared library.
    NotElf,
    /// `E-ARCH`: for another machine.
    Arch,
    /// `E-TRUNCATED`: bytes are missing.
    Truncated,
    /// `E-NO-MANIFEST`: no `HOTPATCH_MODULE_V1`.
    NoManifest,
    /// `E-ABI`: magic, version or struct size differ.
    Abi,
    /// `E-MANIFEST`: names, counts or pointers are invalid.
    Manifest,
    /// `E-LAYOUT`: a shared struct differs.
    Layout,
    /// `E-SYMBOLS`: unresolved symbols.
    Symbols,
    /// `E-STATIC-TLS`: needs static thread-local storage.
    StaticTls,
    /// `E-ON-LOAD`: the module's `on_load` refused.
    OnLoad,
    /// `E-QUARANTINED`: this content crashed or was rolled back in this host.
    Quarantined,
    /// `E-CRASH`: the patch crashed after the swap and was rolled back.
    Crash,
    /// `E-HANG`: the patch hung after the swap and was rolled back.
    Hang,
    /// `E-NO-HOST`: no host.
    NoHost,
    /// `E-HOST-GONE`: the host exited.
    HostGone,
    /// `E-PROTOCOL`: tool and shim differ in version.
    Protocol,
    /// `E-MIGRATE`: the host's state cannot get from its layout into the module's.
    Migrate,
    /// `E-TRIAL`: the trial run ended otherwise than the running version's call.
    Trial,
    /// The slot is declared, or the host is served, already.
    Duplicate,
    /// No slot of that symbol.
    NoSlot,
    /// Nothing to roll back.
    NoPrevious,
    /// Slots, modules or hosts are used up.
    Limit,
    /// No memory.
    Memory,
    /// The host did not reach a safe point in time.
    SafePoint,
    /// An argument is invalid.
    Usage,
    /// Another module or host of the same transaction was refused.
    Aborted,
    /// A status that this crate does not know.
    Unknown(i32),
}

impl Code {
    /// The code of an `hr_status`.
    #[cfg(feature = "host")]
    pub(crate) fn from_status(status: i32) -> Self {
        match status {
            10 => Self::Io,
            11 => Self::Denied,
            12 => Self::NotElf,
            13 => Self::Arch,
            14 => Self::Truncated,
            15 => Self::NoManifest,
            16 => Self::Abi,
            17 => Self::Manifest,
            18 => Self::Layout,
            19 => Self::Symbols,
            20 => Self::StaticTls,
            21 => Self::OnLoad,
            22 => Self::Quarantined,
            23 => Self::Crash,
            24 => Self::Hang,
            25 => Self::NoHost,
            26 => Self::HostGone,
            27 => Self::Protocol,
            28 => Self::Migrate,
            29 => Self::Trial,
            40 => Self::Duplicate,
            41 => Self::NoSlot,
            42 => Self::NoPrevious,
            43 => Self::Limit,
            44 => Self::Memory,
            45 => Self::SafePoint,
            46 => Self::Usage,
            47 => Self::Aborted,
            other => Self::Unknown(other),
        }
    }

    /// The text of the code, the same in every language and in the tool's output: `"E-ABI"`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Io => "E-IO",
            Self::Denied => "E-DENIED",
            Self::NotElf => "E-NOT-ELF",
            Self::Arch => "E-ARCH",
            Self::Truncated => "E-TRUNCATED",
            Self::NoManifest => "E-NO-MANIFEST",
            Self::Abi => "E-ABI",
            Self::Manifest => "E-MANIFEST",
            Self::Layout => "E-LAYOUT",
            Self::Symbols => "E-SYMBOLS",
            Self::StaticTls => "E-STATIC-TLS",
            Self::OnLoad => "E-ON-LOAD",
            Self::Quarantined => "E-QUARANTINED",
            Self::Crash => "E-CRASH",
            Self::Hang => "E-HANG",
            Self::NoHost => "E-NO-HOST",
            Self::HostGone => "E-HOST-GONE",
            Self::Protocol => "E-PROTOCOL",
            Self::Migrate => "E-MIGRATE",
            Self::Trial => "E-TRIAL",
            Self::Duplicate => "E-DUPLICATE",
            Self::NoSlot => "E-NO-SLOT",
            Self::NoPrevious => "E-NO-PREVIOUS",
            Self::Limit => "E-LIMIT",
            Self::Memory => "E-MEMORY",
            Self::SafePoint => "E-SAFE-POINT",
            Self::Usage => "E-USAGE",
            Self::Aborted => "E-ABORTED",
            Self::Unknown(_) => "E-UNKNOWN",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why something was refused. The host is as it was before.
///
/// Its fields are those of [`Refusal`]: `error.code`, `error.reason`, `error.fix`. They are boxed, so that the results
/// of the functions that rarely fail stay small.
#[derive(Clone, PartialEq, Eq)]
pub struct Error(Box<Refusal>);

/// What an [`Error`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// One sentence.
    pub reason: String,
    /// What was found, or empty.
    pub found: String,
    /// What was expected, or empty.
    pub expected: String,
    /// What to do about it.
    pub fix: String,
    /// The build output that it is about, where it is about one.
    pub path: Option<PathBuf>,
    /// The module's name, where the manifest could be read.
    pub module: Option<String>,
}

impl Deref for Error {
    type Target = Refusal;

    fn deref(&self) -> &Refusal {
        &self.0
    }
}

#[cfg(feature = "host")]
impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        Self(Box::new(refusal))
    }
}

#[cfg(feature = "host")]
impl Refusal {
    pub(crate) fn new(code: Code, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        let (reason, fix) = (reason.into(), fix.into());
        Self { code, reason, found: String::new(), expected: String::new(), fix, path: None, module: None }
    }
}

#[cfg(feature = "host")]
impl Error {
    pub(crate) fn new(code: Code, reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Refusal::new(code, reason, fix).into()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl fmt::Display for Error {
    /// One line: code, reason, found, expected, fix.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code, self.reason)?;
        for (label, text) in [("found", &self.found), ("expected", &self.expected), ("fix", &self.fix)] {
            if !text.is_empty() {
                write!(formatter, "; {label}: {text}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
