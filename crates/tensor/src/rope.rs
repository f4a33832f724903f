//! Rotary position embedding as the devices apply it (Su et al., "RoFormer", 2021).
//!
//! Each head's vector is cut into *sections*; a section rotates pairs of elements by `position * inv_freq`. Which
//! frequencies a generation uses is a matter for its spec; this file only applies them.

/// Which two elements of a section form a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RopePairs {
    /// `(x0, x1), (x2, x3), ...`: GLM-4, ChatGLM2/3 ("GPT-J style", llama.cpp's NORM).
    Interleaved,
    /// `(x0, x[n/2]), (x1, x[n/2+1]), ...`: ChatGLM-6B ("NeoX style").
    Halves,
    /// `(x0, x[n]), (x1, x[n+1]), ...` with the `n` pairs of all sections together, which hold the first elements of theirs:
    /// GLM-4.1V's tower ("NeoX style" with two axes).
    Across,
}

/// A run of elements of each head rotated by one of the row's positions.
#[derive(Clone, Debug, PartialEq)]
pub struct RopeSection {
    /// Which of the row's `rope_pos` drives it.
    pub axis: usize,
    /// First element of the head that it rotates; it rotates `2 * inv_freq.len()` of them, which follow each other but for
    /// [`RopePairs::Across`].
    pub first_dim: usize,
    /// Angle per unit of position, one for each pair.
    pub inv_freq: Vec<f32>,
}

/// The whole rotation of a head. Elements that no section names pass through.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// How elements are paired.
    pub pairs: RopePairs,
    /// The sections, disjoint.
    pub sections: Vec<RopeSection>,
    /// Factor on cosine and sine (YaRN's attention factor; 1 otherwise).
    pub magnitude: f32,
}

impl Rope {
    /// Positions per row that the rotation reads.
    pub fn axes(&self) -> usize {
        self.sections.iter().map(|s| s.axis + 1).max().unwrap_or(1)
    }

    /// Number of rotated pairs of a head, over all sections.
    pub fn pair_count(&self) -> usize {
        self.sections.iter().map(|s| s.inv_freq.len()).sum()
    }

    /// The two elements of a head that pair `i` of a section has.
    pub fn pair(&self, section: &RopeSection, i: usize) -> [usize; 2] {
        let first = section.first_dim;
        match self.pairs {
            RopePairs::Interleaved => [first + 2 * i, first + 2 * i + 1],
            RopePairs::Halves => [first + i, first + i + section.inv_freq.len()],
            RopePairs::Across => [first + i, first + i + self.pair_count()],
        }
    }

    /// Appends `[pair_count]` pairs `(cos, sin)` for one row at `pos` (`[axes]`).
    ///
    /// As in every reference implementation the angle is a product rounded to f32; its cosine and sine are then
    /// taken in f64, so that positions of a million lose nothing more.
    pub fn cos_sin(&self, pos: &[f32], out: &mut Vec<(f32, f32)>) {
        for section in &self.sections {
            let p = pos[section.axis];
            out.extend(section.inv_freq.iter().map(|&f| {
                let (sin, cos) = f64::from(p * f).sin_cos();
                (cos as f32 * self.magnitude, sin as f32 * self.magnitude)
            }));
        }
    }

    /// Rotates one head in place by the row's [`Rope::cos_sin`].
    pub fn rotate(&self, head: &mut [f32], cos_sin: &[(f32, f32)]) {
        self.turn(head, cos_sin, 1.0);
    }

    /// Rotates one head in place the other way: what was a gradient by the rotated head is one by the head.
    pub fn rotate_back(&self, head: &mut [f32], cos_sin: &[(f32, f32)]) {
        self.turn(head, cos_sin, -1.0);
    }

    fn turn(&self, head: &mut [f32], cos_sin: &[(f32, f32)], direction: f32) {
        let mut at = 0;
        for section in &self.sections {
            let n = section.inv_freq.len();
            for (i, &(cos, sin)) in cos_sin[at..at + n].iter().enumerate() {
                let [a, b] = self.pair(section, i);
                let (x, y, sin) = (head[a], head[b], sin * direction);
                head[a] = x * cos - y * sin;
                head[b] = y * cos + x * sin;
            }
            at += n;
        }
    }
}
