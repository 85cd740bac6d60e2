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
    use std::sync::atomic::{AtomicUsize, Ordering};

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

    /// The objects of all files, in their order, by as many compilers at a time as cargo builds crates: a newcomer waits
    /// for nothing else as long. The feature "parallel" of `cc` would bring further crates, to be built before.
    fn objects(files: &[PathBuf], include: &Path) -> Vec<PathBuf> {
        let jobs = std::env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
        let next = AtomicUsize::new(0);
        // Each worker takes the next file when it has done one: one file is as long as ten others.
        let work = || {
            let numbers = std::iter::repeat_with(|| next.fetch_add(1, Ordering::Relaxed));
            let taken = numbers.take_while(|number| *number < files.len());
            taken.map(|number| (number, object(&files[number], include))).collect::<Vec<_>>()
        };
        let mut found: Vec<(usize, PathBuf)> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("cc ends the build by itself")).collect()
        });
        found.sort();
        found.into_iter().map(|(_, object)| object).collect()
    }

    fn object(file: &Path, include: &Path) -> PathBuf {
        let objects = cc::Build::new()
            .file(file)
            .include(include)
            .std("c11")
            // The call path of a debug build still runs the shim at speed: its time is the host's time.
            .opt_level(2)
            .warnings(true)
            .extra_warnings(true)
            .compile_intermediates();
        objects.into_iter().next().expect("one object for each file")
    }

    pub fn compile() {
        let shim = directory();
        let include = shim.join("include");
        let source = shim.join("src");
        // Directories: cargo then looks at every file in them, new ones included.
        println!("cargo:rerun-if-changed={}", include.display());
        println!("cargo:rerun-if-changed={}", source.display());
        println!("cargo:rerun-if-changed=src/layout.c");
        let mut files = sources(&source);
        // Not part of the shim: proves at compile time that ffi.rs and the headers agree.
        files.push(PathBuf::from("src/layout.c"));
        cc::Build::new().objects(objects(&files, &include)).compile("hotreload_shim");
        // For dependents (DEP_HOTRELOAD_INCLUDE): C sources of a mixed host find the same headers.
        println!("cargo:include={}", include.display());
    }
}
