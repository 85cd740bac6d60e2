//! Compiles the shim's C sources into the crate, for hosts. Patch modules and `off` builds compile nothing.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=HOTRELOAD_SHIM_DIR");
    #[cfg(feature = "host")]
    if std::env::var_os("CARGO_FEATURE_OFF").is_none() {
        shim::compile();
    }
}

#[cfg(feature = "host")]
mod shim {
    use std::path::{Path, PathBuf};

    /// The directory that holds `include/` and `src/` of the shim: by default the crate's parent, as in the repository.
    fn directory() -> PathBuf {
        match std::env::var_os("HOTRELOAD_SHIM_DIR") {
            Some(directory) => PathBuf::from(directory),
            None => {
                let manifest = std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
                Path::new(&manifest).parent().expect("a package has a parent directory").to_path_buf()
            }
        }
    }

    /// The C sources, sorted: the archive's order must not depend on the file system.
    fn sources(directory: &Path) -> Vec<PathBuf> {
        let listing = directory.read_dir().unwrap_or_else(|error| {
            panic!("cannot read the shim's sources in {}: {error}; set HOTRELOAD_SHIM_DIR", directory.display())
        });
        let mut files: Vec<PathBuf> = listing
            .map(|entry| entry.expect("a readable directory entry").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "c"))
            .collect();
        files.sort();
        assert!(!files.is_empty(), "no C sources in {}; set HOTRELOAD_SHIM_DIR", directory.display());
        files
    }

    pub fn compile() {
        let shim = directory();
        let include = shim.join("include");
        let source = shim.join("src");
        // Directories: cargo then looks at every file in them, new ones included.
        println!("cargo:rerun-if-changed={}", include.display());
        println!("cargo:rerun-if-changed={}", source.display());
        println!("cargo:rerun-if-changed=src/layout.c");
        cc::Build::new()
            .files(sources(&source))
            // Not part of the shim: proves at compile time that ffi.rs and the headers agree.
            .file("src/layout.c")
            .include(&include)
            .std("c11")
            // The call path of a debug build still runs the shim at speed: its time is the host's time.
            .opt_level(2)
            .warnings(true)
            .extra_warnings(true)
            .compile("hotreload_shim");
        // For dependents (DEP_HOTRELOAD_INCLUDE): C sources of a mixed host find the same headers.
        println!("cargo:include={}", include.display());
    }
}
