//! What NVIDIA's management library (NVML) tells of cards: their memory, and how busy they are. It comes with the driver and
//! is opened when it is first asked; where there is none, there is nothing to tell.
//!
//! Names, structs and meanings: NVIDIA's "NVML API Reference Guide".

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::sync::OnceLock;

use libloading::{Error, Library};

/// The library's name on Linux.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Room for a name: `NVML_DEVICE_NAME_V2_BUFFER_SIZE`, and more than a UUID takes.
const NAME: usize = 96;

/// A card as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardUse {
    /// Its name, such as "NVIDIA H200".
    pub name: String,
    /// What tells it from all others, such as "GPU-8f2e...".
    pub uuid: String,
    /// Bytes of memory that somebody uses, the driver included.
    pub memory_used: u64,
    /// Bytes of memory that it has.
    pub memory_total: u64,
    /// Percent of the last second or so in which a kernel ran; `None` where the card does not tell (shared ones do not).
    pub busy: Option<u32>,
}

/// All cards of the machine in NVML's order; none without NVML.
pub fn card_use() -> Vec<CardUse> {
    static OPEN: OnceLock<Option<Nvml>> = OnceLock::new();
    OPEN.get_or_init(|| Nvml::open(LIBRARY)).as_ref().map(Nvml::cards).unwrap_or_default()
}

/// A card's handle.
type Handle = *mut c_void;
/// What a function returns: zero, or why not.
type Status = c_int;

/// `nvmlMemory_t`
#[derive(Default)]
#[repr(C)]
struct MemoryInfo {
    total: u64,
    free: u64,
    used: u64,
}

/// `nvmlUtilization_t`
#[derive(Default)]
#[repr(C)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

/// The library's functions, which may be called from any thread.
struct Nvml {
    count: unsafe extern "C" fn(*mut c_uint) -> Status,
    handle: unsafe extern "C" fn(c_uint, *mut Handle) -> Status,
    name: unsafe extern "C" fn(Handle, *mut c_char, c_uint) -> Status,
    uuid: unsafe extern "C" fn(Handle, *mut c_char, c_uint) -> Status,
    memory: unsafe extern "C" fn(Handle, *mut MemoryInfo) -> Status,
    utilization: unsafe extern "C" fn(Handle, *mut Utilization) -> Status,
    /// Stays open as long as its functions are called.
    _library: Library,
}

impl Nvml {
    /// Opens and starts the library; `None` where it is not there, lacks a function or does not start.
    fn open(library: &str) -> Option<Nvml> {
        // SAFETY: loads NVIDIA's library, whose initialisers are NVIDIA's.
        let library = unsafe { Library::new(library) }.ok()?;
        Self::on(library).ok().flatten()
    }

    fn on(library: Library) -> Result<Option<Nvml>, Error> {
        // SAFETY: each function is called as NVML declares it, and none after the library is closed.
        unsafe {
            let start = library.get::<unsafe extern "C" fn() -> Status>("nvmlInit_v2")?;
            if start() != 0 {
                return Ok(None);
            }
            Ok(Some(Nvml {
                count: *library.get("nvmlDeviceGetCount_v2")?,
                handle: *library.get("nvmlDeviceGetHandleByIndex_v2")?,
                name: *library.get("nvmlDeviceGetName")?,
                uuid: *library.get("nvmlDeviceGetUUID")?,
                memory: *library.get("nvmlDeviceGetMemoryInfo")?,
                utilization: *library.get("nvmlDeviceGetUtilizationRates")?,
                _library: library,
            }))
        }
    }

    fn cards(&self) -> Vec<CardUse> {
        let mut count = 0;
        // SAFETY: writes one integer.
        if unsafe { (self.count)(&raw mut count) } != 0 {
            return Vec::new();
        }
        (0..count).filter_map(|number| self.card(number)).collect()
    }

    /// A card; `None` where it cannot be asked, because it has fallen off the bus, say.
    fn card(&self, number: c_uint) -> Option<CardUse> {
        let (mut handle, mut memory) = (std::ptr::null_mut(), MemoryInfo::default());
        let mut utilization = Utilization::default();
        // SAFETY: each function writes the struct that it is given; the handle is the library's own.
        let busy = unsafe {
            if (self.handle)(number, &raw mut handle) != 0 || (self.memory)(handle, &raw mut memory) != 0 {
                return None;
            }
            (self.utilization)(handle, &raw mut utilization) == 0
        };
        Some(CardUse {
            name: text(|to, len| {
                // SAFETY: writes at most `len` bytes, and a zero behind a name.
                unsafe { (self.name)(handle, to, len) }
            }),
            uuid: text(|to, len| {
                // SAFETY: as above.
                unsafe { (self.uuid)(handle, to, len) }
            }),
            memory_used: memory.used,
            memory_total: memory.total,
            busy: busy.then_some(utilization.gpu),
        })
    }
}

/// What a function writes as text; nothing where it fails.
fn text(write: impl FnOnce(*mut c_char, c_uint) -> Status) -> String {
    let mut bytes = [0u8; NAME];
    if write(bytes.as_mut_ptr().cast(), NAME as c_uint) != 0 {
        return String::new();
    }
    CStr::from_bytes_until_nul(&bytes).map_or(String::new(), |text| text.to_string_lossy().into_owned())
}

#[cfg(all(test, feature = "emulate"))]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// Compiles `stand_ins/libnvidia-ml.cpp` with a definition.
    fn stand_in(name: &str, definition: &str) -> PathBuf {
        let library = Path::new(env!("OUT_DIR")).join(format!("lib{name}.so"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stand_ins/libnvidia-ml.cpp");
        let mut command = Command::new(std::env::var_os("CXX").unwrap_or_else(|| "g++".into()));
        command.args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", definition]);
        let output =
            command.arg(source).arg("-o").arg(&library).output().expect("the compiler of the kernels");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        library
    }

    fn cards(library: &Path) -> Option<Vec<CardUse>> {
        Nvml::open(library.to_str().expect("a path of UTF-8")).map(|nvml| nvml.cards())
    }

    #[test]
    fn cards_are_as_the_library_tells() {
        let card = |number: u64, busy| CardUse {
            name: format!("NVIDIA Stand-in {number}"),
            uuid: format!("GPU-0000000{number}"),
            memory_used: (number + 1) << 30,
            memory_total: 24 << 30,
            busy,
        };
        // The second one has fallen off the bus, the third one is shared and does not tell how busy it is.
        let expected = vec![card(0, Some(37)), card(2, None)];
        assert_eq!(cards(&stand_in("nvml_sound", "-DSOUND")), Some(expected));
    }

    #[test]
    fn without_a_library_that_works_there_is_nothing() {
        assert_eq!(cards(Path::new("/nowhere/libnvidia-ml.so.1")), None);
        assert_eq!(cards(&stand_in("nvml_refusing", "-DREFUSING")), None);
        assert_eq!(cards(&stand_in("nvml_old", "-DOLD")), None);
    }
}
