//! The few requests to the operating system: where threads run and how memory is backed.
//!
//! Each is a wish. Where the system has no such call or refuses it, the program is slower and nothing else.

use std::path::Path;

use glimmer_tensor::FreeMemory;

#[cfg(target_os = "linux")]
pub(crate) use linux::{advise_huge, allowed_cpus, pin_to};
#[cfg(not(target_os = "linux"))]
pub(crate) use portable::{advise_huge, allowed_cpus, pin_to};

/// Gives memory that was freed back to the system: glibc keeps what small objects leave behind.
pub fn give_back_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it moves nothing that is in use, and may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// What programs can still have without swapping: as the system says (`/proc/meminfo`), or less where this one is in a
/// container that may have less.
pub fn free_memory() -> Option<FreeMemory> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let bytes = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse::<usize>().ok()?.checked_mul(1024)
    };
    let system = FreeMemory { free: bytes("MemAvailable:")?, total: bytes("MemTotal:")? };
    Some(match container_memory(Path::new("/sys/fs/cgroup")) {
        Some(own) => FreeMemory { free: system.free.min(own.free), total: system.total.min(own.total) },
        None => system,
    })
}

/// What the control group at this place may have and has not (cgroup v2, as a container sees its own); `None` where it is
/// not limited. Files that it has read and could read again are not counted: the system drops them first.
fn container_memory(group: &Path) -> Option<FreeMemory> {
    let read = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    let number = |name: &str| read(name)?.trim().parse::<usize>().ok();
    let total = number("memory.max")?;
    let files = read("memory.stat")
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("inactive_file ")?.parse().ok()));
    let used = number("memory.current")?.saturating_sub(files.unwrap_or(0));
    Some(FreeMemory { free: total.saturating_sub(used), total })
}

#[cfg(target_os = "linux")]
mod linux {
    /// The processors that this thread may run on, ascending; `None` when the system does not tell.
    pub(crate) fn allowed_cpus() -> Option<Vec<usize>> {
        // SAFETY: `cpu_set_t` is a plain array of bits, for which all zeros is a value.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: the kernel writes at most the given size into `set`, which lives across the call.
        let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) };
        if result != 0 {
            return None;
        }
        // SAFETY: CPU_ISSET reads bit `cpu` of `set`, and `cpu` is below the number of its bits.
        Some((0..libc::CPU_SETSIZE as usize).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect())
    }

    /// Keeps the calling thread on one processor. Says whether the system agreed.
    pub(crate) fn pin_to(cpu: usize) -> bool {
        if cpu >= libc::CPU_SETSIZE as usize {
            return false;
        }
        // SAFETY: `cpu_set_t` is a plain array of bits, for which all zeros is a value.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: CPU_SET writes bit `cpu` of `set`, which was just checked to be one of its bits.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        // SAFETY: the kernel reads the given size from `set`; 0 names the calling thread.
        unsafe { libc::sched_setaffinity(0, size_of_val(&set), &set) == 0 }
    }

    /// Asks for huge pages behind `memory`, before it is first touched.
    pub(crate) fn advise_huge(memory: &mut [std::mem::MaybeUninit<u8>]) {
        let page = 2 << 20;
        let start = memory.as_mut_ptr();
        let skip = start.align_offset(page);
        let Some(len) = memory.len().checked_sub(skip).map(|len| len / page * page).filter(|&len| len > 0)
        else {
            return;
        };
        // SAFETY: the range lies within `memory`, and MADV_HUGEPAGE changes how it is backed, not what it holds.
        unsafe { libc::madvise(start.add(skip).cast(), len, libc::MADV_HUGEPAGE) };
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    /// This system does not tell.
    pub(crate) fn allowed_cpus() -> Option<Vec<usize>> {
        None
    }

    /// This system places threads as it likes.
    pub(crate) fn pin_to(_cpu: usize) -> bool {
        false
    }

    /// This system backs memory as it likes.
    pub(crate) fn advise_huge(_memory: &mut [std::mem::MaybeUninit<u8>]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_has_what_it_may_have_and_has_not() {
        let group = std::env::temp_dir().join(format!("glimmer-cgroup-{}", std::process::id()));
        std::fs::create_dir_all(&group).unwrap();
        let write = |name: &str, text: &str| std::fs::write(group.join(name), text).unwrap();
        assert_eq!(container_memory(&group), None);
        write("memory.current", "700\n");
        write("memory.max", "max\n");
        assert_eq!(container_memory(&group), None);
        write("memory.max", "1000\n");
        assert_eq!(container_memory(&group), Some(FreeMemory { free: 300, total: 1000 }));
        write("memory.stat", "anon 100\ninactive_file 200\nactive_file 50\n");
        assert_eq!(container_memory(&group), Some(FreeMemory { free: 500, total: 1000 }));
        write("memory.max", "100\n");
        assert_eq!(container_memory(&group).unwrap().free, 0);
        std::fs::remove_dir_all(&group).unwrap();
    }
}
