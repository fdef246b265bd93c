//! Compiles generated code and loads it into the process.

use std::ffi::{CStr, CString, OsString, c_void};
use std::fmt;
use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use dpdk_sys as sys;

use crate::os;

/// Packets that generated code takes at once; it is written for so many.
pub(super) const BURST: usize = 32;

/// How the compiler is called. Position-independent, without a library behind it; the code reads and writes the bytes of
/// packets as numbers.
const FLAGS: &[&str] =
    &["-x", "c", "-", "-std=gnu11", "-O3", "-fno-strict-aliasing", "-fPIC", "-shared", "-nostdlib", "-w"];

/// A C compiler that generated code is given to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compiler {
    /// The program, which takes the arguments of `cc`: a path, or a name that is looked for in `PATH`.
    pub program: OsString,
}

impl Compiler {
    /// Whether it makes code that can be loaded; to find out before a program depends on it.
    pub fn check(&self) -> Result<(), CompileError> {
        let text = "const unsigned carom_state_bytes = 64;\nvoid carom_run(void) {}\n";
        Library::compile(self, text).map(drop)
    }
}

impl Default for Compiler {
    /// The system's, `cc`.
    fn default() -> Self {
        Compiler { program: "cc".into() }
    }
}

/// Why there is no code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CompileError {
    /// The compiler does not run.
    NoCompiler {
        /// What was called.
        program: OsString,
        /// What the system says.
        error: String,
    },
    /// There is no directory for its output.
    Directory {
        /// Where it should have been.
        parent: PathBuf,
        /// What the system says.
        error: String,
    },
    /// The compiler says no.
    Failed {
        /// What was called.
        program: OsString,
        /// The beginning of what it says.
        output: String,
    },
    /// The result cannot be loaded.
    Load {
        /// What the loader says.
        error: String,
    },
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CompileError::NoCompiler { program, error } => write!(
                f,
                "the C compiler {} does not run ({error}): install one (Debian and Ubuntu: apt-get install gcc), or have the \
                 program interpreted",
                program.display()
            ),
            CompileError::Directory { parent, error } => {
                write!(f, "no directory for compiled code in {}: {error}", parent.display())
            }
            CompileError::Failed { program, output } => write!(f, "{} fails: {output}", program.display()),
            CompileError::Load { error } => write!(f, "the compiled code cannot be loaded: {error}"),
        }
    }
}

impl std::error::Error for CompileError {}

/// What generated code runs with: `struct environment` of its prelude.
#[repr(C)]
pub(super) struct Environment {
    pub(super) tables: *const *mut c_void,
    pub(super) registers: *const *mut u64,
    pub(super) look_up: sys::rte_swx_table_lookup_t,
}

/// A packet, in and out: `struct packet` of the prelude.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Packet {
    /// Its first byte.
    pub(super) start: *mut u8,
    /// Its bytes.
    pub(super) length: u32,
    /// The output it leaves by.
    pub(super) output: u32,
}

type Run = unsafe extern "C" fn(*const Environment, *mut c_void, *mut Packet, u32);

/// Generated code in this process.
pub(super) struct Library {
    handle: NonNull<c_void>,
    run: Run,
    /// Bytes of what one packet needs while it is under way.
    state_bytes: u32,
}

// SAFETY: the handle is for unloading only, which may be done by any thread; the code has no state of its own.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// Compiles the text and loads the result.
    pub(super) fn compile(compiler: &Compiler, text: &str) -> Result<Library, CompileError> {
        let directory = Directory::create()?;
        let path = directory.0.join("program.so");
        let failed = |output: &[u8]| CompileError::Failed {
            program: compiler.program.clone(),
            output: String::from_utf8_lossy(output).lines().take(3).collect::<Vec<_>>().join("; "),
        };
        let child = Command::new(&compiler.program)
            .args(FLAGS)
            .arg("-o")
            .arg(&path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|error| CompileError::NoCompiler {
            program: compiler.program.clone(),
            error: error.to_string(),
        })?;
        // A compiler that ends without reading says why on its other end.
        let _ = child.stdin.take().map(|mut stdin| stdin.write_all(text.as_bytes()));
        let output = child.wait_with_output().map_err(|error| failed(error.to_string().as_bytes()))?;
        if !output.status.success() {
            return Err(failed(&output.stderr));
        }
        Library::load(&path)
    }

    /// Loads what the compiler made. The file is not needed any more then.
    fn load(path: &Path) -> Result<Library, CompileError> {
        let file = os::c_string(&path.to_string_lossy());
        // SAFETY: a path that ends with a zero byte; the library has no initialisers. Locally, so that no name of it gets in
        // the way of others.
        let handle = unsafe { libc::dlopen(file.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        let handle = NonNull::new(handle).ok_or_else(loader_error)?;
        // SAFETY: the library is loaded; names end with a zero byte. Both are defined in the text by these types.
        unsafe {
            let symbol =
                |name: &CStr| NonNull::new(libc::dlsym(handle.as_ptr(), name.as_ptr())).ok_or_else(loader_error);
            let run = std::mem::transmute::<*mut c_void, Run>(symbol(c"carom_run")?.as_ptr());
            let state_bytes = *symbol(c"carom_state_bytes")?.cast::<u32>().as_ref();
            Ok(Library { handle, run, state_bytes })
        }
    }

    /// Memory for a burst of packets that are under way. It is in whole cache lines.
    pub(super) fn states(&self) -> Box<[Line]> {
        let lines = self.state_bytes as usize / size_of::<Line>() * BURST;
        vec![Line([0; 64]); lines].into_boxed_slice()
    }

    /// Takes packets to their end.
    ///
    /// # Safety
    /// The environment has the tables and registers of the program the code was made of, and nobody changes these tables
    /// meanwhile. `states` are those of [`Library::states`]. There are at most [`BURST`] packets, each with as much room in
    /// front of it as the program may add, and in memory that is the caller's.
    #[inline]
    pub(super) unsafe fn run(&self, environment: &Environment, states: &mut [Line], packets: &mut [Packet]) {
        debug_assert!(packets.len() <= BURST);
        // SAFETY: the caller's promise. So few fit.
        unsafe { (self.run)(environment, states.as_mut_ptr().cast(), packets.as_mut_ptr(), packets.len() as u32) }
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: loaded once, and nobody runs its code any more: who could has no library.
        unsafe { libc::dlclose(self.handle.as_ptr()) };
    }
}

/// A cache line of packets' state, which the C side lays out.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub(super) struct Line([u8; 64]);

fn loader_error() -> CompileError {
    // SAFETY: null, or a string that is valid until the next call on this thread.
    let error = unsafe { NonNull::new(libc::dlerror()).map(|text| CStr::from_ptr(text.as_ptr()).to_owned()) };
    CompileError::Load { error: error.unwrap_or_else(CString::default).to_string_lossy().into_owned() }
}

/// A directory that only this user can enter, for the time of a compilation: nobody else may put a library there.
struct Directory(PathBuf);

impl Directory {
    fn create() -> Result<Directory, CompileError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let parent = std::env::temp_dir();
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("carom-{}-{number}", process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(Directory(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(CompileError::Directory { parent, error: error.to_string() }),
            }
        }
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What stays is a few kilobytes in a temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The lookup that DPDK's exact-match tables have, in steps with other packets between them.
pub(super) fn look_up() -> sys::rte_swx_table_lookup_t {
    // SAFETY: constants of DPDK.
    unsafe { sys::rte_swx_table_exact_match_ops.lkp }
}

/// What lookups of a table remember between two steps must fit the place that generated code has for it.
pub(super) fn mailbox_fits() -> bool {
    // SAFETY: as above; the call has no arguments and no effects.
    let bytes: Option<u64> = unsafe { sys::rte_swx_table_exact_match_ops.mailbox_size_get.map(|bytes| bytes()) };
    bytes.unwrap_or(0) <= 64
}
