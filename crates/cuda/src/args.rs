//! What the kernels for single rows are called with: mirrors of the structs in `kernels/args.cuh`, field by field.

use crate::driver::Memory;
use bytemuck::{Pod, Zeroable};

/// `embed_tiles`, `embed_rows`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct EmbedArgs {
    pub(crate) rows: Memory,
    pub(crate) tokens: Memory,
    pub(crate) weights: Memory,
    pub(crate) scales: Memory,
    pub(crate) out: Memory,
    pub(crate) stride: u64,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) width: u32,
    pub(crate) kind: u32,
}

/// `norm_rows`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct NormArgs {
    pub(crate) rows: Memory,
    pub(crate) x: Memory,
    pub(crate) out: Memory,
    pub(crate) weight: Memory,
    pub(crate) bias: Memory,
    pub(crate) width: u32,
    pub(crate) eps: f32,
    pub(crate) centred: u32,
    pub(crate) add: u32,
}

/// `rope`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct RopeArgs {
    pub(crate) rows: Memory,
    pub(crate) qkv: Memory,
    pub(crate) cos_sin: Memory,
    pub(crate) pairs: Memory,
    pub(crate) row_width: u32,
    pub(crate) heads: u32,
    pub(crate) head_dim: u32,
    pub(crate) pair_count: u32,
}

/// `gather`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct GatherArgs {
    pub(crate) count: Memory,
    pub(crate) from: Memory,
    pub(crate) x: Memory,
    pub(crate) out: Memory,
    pub(crate) width: u32,
    pub(crate) unused: u32,
}

/// `largest`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct LargestArgs {
    pub(crate) rows: Memory,
    pub(crate) x: Memory,
    pub(crate) out: Memory,
    pub(crate) width: u32,
    pub(crate) unused: u32,
}

/// `candidates`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct CandidatesArgs {
    pub(crate) rows: Memory,
    pub(crate) x: Memory,
    pub(crate) keys: Memory,
    pub(crate) out: Memory,
    pub(crate) count: u32,
    pub(crate) stride: u32,
}

/// `weigh`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct WeighArgs {
    pub(crate) rows: Memory,
    pub(crate) x: Memory,
    pub(crate) temperatures: Memory,
    pub(crate) row: Memory,
    pub(crate) width: u32,
    pub(crate) stride: u32,
}

/// `check_finite`
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(crate) struct FiniteArgs {
    pub(crate) rows: Memory,
    pub(crate) x: Memory,
    pub(crate) first: Memory,
    pub(crate) width: u32,
    pub(crate) place: u32,
}

#[cfg(all(test, feature = "emulate"))]
mod tests {
    use super::*;
    use crate::step::{SequenceArgs, StepArgs};
    use std::ffi::{CString, c_char};
    use std::mem::offset_of;

    unsafe extern "C" {
        fn emulation_offset(name: *const c_char) -> usize;
    }

    fn in_cpp(name: &str) -> usize {
        let name = CString::new(name).expect("a name without zeros");
        // SAFETY: a string that ends with zero.
        unsafe { emulation_offset(name.as_ptr()) }
    }

    macro_rules! same {
        ($rust:ident is $cpp:literal: $($field:ident $(as $other:literal)?),*) => {
            assert_eq!(size_of::<$rust>(), in_cpp($cpp), $cpp);
            $(
                let name = [$($other,)? stringify!($field)][0];
                assert_eq!(offset_of!($rust, $field), in_cpp(&format!("{}.{name}", $cpp)), "{}.{name}", $cpp);
            )*
        };
    }

    #[test]
    fn kernels_and_host_agree_where_arguments_lie() {
        same!(SequenceArgs is "Sequence": first_row, rows, kv_len, prefix_len, first_page);
        same!(StepArgs is "Step":
            counts, tokens, slots, visible, sequence_of, logits_rows, sequences, pages);
        same!(EmbedArgs is "EmbedArgs":
            rows, tokens, weights, scales, out, stride, first, count, width, kind as "type");
        same!(NormArgs is "NormArgs": rows, x, out, weight, bias, width, eps, centred, add);
        same!(RopeArgs is "RopeArgs": rows, qkv, cos_sin, pairs, row_width, heads, head_dim, pair_count);
        same!(GatherArgs is "GatherArgs": count, from, x, out, width, unused);
        same!(LargestArgs is "LargestArgs": rows, x, out, width, unused);
        same!(CandidatesArgs is "CandidatesArgs": rows, x, keys, out, count, stride);
        same!(WeighArgs is "WeighArgs": rows, x, temperatures, row, width, stride);
        same!(FiniteArgs is "FiniteArgs": rows, x, first, width, place);
    }
}
