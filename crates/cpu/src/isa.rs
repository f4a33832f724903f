//! Which instructions the kernels may use, decided once when a device is made.

use std::fmt;
use std::sync::LazyLock;

/// An instruction set that kernels exist for, from the fastest to the one that every processor has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AVX-512 F, BW, DQ, VL and VNNI (Ice Lake, Zen 4 and later).
    Avx512Vnni,
    /// AVX2, FMA and F16C (Haswell, Zen and later), with AVX-VNNI where the processor has it.
    Avx2,
    /// Whatever the compiler's target has.
    Portable,
}

/// Why an instruction set cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IsaError {
    /// The name is none of ours.
    #[error("GLIMMER_ISA={0}: no such instruction set; use avx512, avx2 or portable")]
    Unknown(String),
    /// The processor lacks it.
    #[error("GLIMMER_ISA={wanted}: this processor has {best} at most")]
    Missing {
        /// What was asked for.
        wanted: Isa,
        /// The best that this processor has.
        best: Isa,
    },
}

impl Isa {
    /// All of them, best first.
    pub const ALL: [Isa; 3] = [Isa::Avx512Vnni, Isa::Avx2, Isa::Portable];

    /// The best that this processor has, or the one that the environment variable `GLIMMER_ISA` names
    /// (`avx512`, `avx2`, `portable`).
    ///
    /// # Errors
    /// When the variable names something unknown or something that the processor lacks.
    pub fn detect() -> Result<Isa, IsaError> {
        match std::env::var("GLIMMER_ISA") {
            Ok(name) if !name.is_empty() => Isa::choose(&name),
            _ => Ok(Isa::best()),
        }
    }

    /// Those that this processor has, best first; never empty.
    pub fn available() -> Vec<Isa> {
        Isa::ALL.into_iter().filter(|isa| isa.is_available()).collect()
    }

    /// Whether this processor has it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Vnni => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
                    && Isa::Avx2.is_available()
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(not(target_arch = "x86_64"))]
            Isa::Avx512Vnni | Isa::Avx2 => false,
            Isa::Portable => true,
        }
    }

    fn best() -> Isa {
        Isa::available().into_iter().next().unwrap_or(Isa::Portable)
    }

    fn choose(name: &str) -> Result<Isa, IsaError> {
        let wanted = Isa::ALL
            .into_iter()
            .find(|isa| isa.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| IsaError::Unknown(name.to_owned()))?;
        if wanted.is_available() { Ok(wanted) } else { Err(IsaError::Missing { wanted, best: Isa::best() }) }
    }

    /// The name that `GLIMMER_ISA` takes.
    const fn name(self) -> &'static str {
        match self {
            Isa::Avx512Vnni => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }
}

/// Whether AMD made the processor.
pub fn is_amd() -> bool {
    static AMD: LazyLock<bool> = LazyLock::new(made_by_amd);
    *AMD
}

#[cfg(target_arch = "x86_64")]
fn made_by_amd() -> bool {
    let std::arch::x86_64::CpuidResult { ebx, ecx, edx, .. } = std::arch::x86_64::__cpuid(0);
    [ebx, edx, ecx].map(u32::to_le_bytes).as_flattened() == b"AuthenticAMD"
}

#[cfg(not(target_arch = "x86_64"))]
fn made_by_amd() -> bool {
    false
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_choose_what_the_processor_has() {
        assert_eq!(Isa::choose("Portable"), Ok(Isa::Portable));
        assert_eq!(Isa::choose("sse9"), Err(IsaError::Unknown("sse9".to_owned())));
        for isa in Isa::ALL {
            let found = Isa::choose(&isa.to_string());
            if isa.is_available() {
                assert_eq!(found, Ok(isa));
                assert!(Isa::available().contains(&isa));
            } else {
                assert_eq!(found, Err(IsaError::Missing { wanted: isa, best: Isa::best() }));
            }
        }
    }
}
