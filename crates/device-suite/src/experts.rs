//! Feed-forwards of which each row meets some.

use crate::rig::{NO_HEADS, Random, Rig, Weights, bits};
use crate::rows::{close, reference};
use crate::{Candidate, Make};
use glimmer_tensor::{Compute, DType, Expert, ExpertBuffers, Experts, KvType, MatrixUse, Role, Routing};

/// Rows of a step and what there is for them.
struct Case {
    hidden: usize,
    inner: usize,
    rows: usize,
    routing: Routing,
    up: Vec<Weights>,
    down: Vec<Weights>,
    correction: Vec<f32>,
    x: Vec<f32>,
    scores: Vec<f32>,
    before: Vec<f32>,
}

impl Case {
    fn random(rng: &mut Random, dtype: DType, rows: usize, routing: Routing, experts: usize) -> Case {
        let (hidden, inner) = (64, 96);
        let mut matrices = |outputs, cols| -> Vec<Weights> {
            (0..experts).map(|_| Weights::random(rng, dtype, outputs, cols)).collect()
        };
        let (up, down) = (matrices(2 * inner, hidden), matrices(hidden, inner));
        Case {
            up,
            down,
            correction: rng.normals(experts),
            x: rng.normals(rows * hidden),
            scores: rng.normals(rows * experts),
            before: rng.normals(rows * hidden),
            hidden,
            inner,
            rows,
            routing,
        }
    }

    /// What becomes of the rows `tokens`.
    fn run(&self, make: Make<'_>, tokens: &[u32]) -> Vec<f32> {
        let &Case { hidden, inner, rows, routing, .. } = self;
        let experts = self.up.len();
        let load = |device: &mut dyn glimmer_tensor::Device| {
            let mut matrix = |weights: &Weights, used_for| {
                device.load_matrix(&[weights.view()], None, used_for, &|_| ()).unwrap()
            };
            let both = self.up.iter().zip(&self.down);
            let each: Vec<Expert> = both
                .map(|(up, down)| Expert {
                    up: matrix(up, MatrixUse::Gated),
                    down: matrix(down, MatrixUse::Linear),
                })
                .collect();
            let correction = device.load_vector(&self.correction);
            let inputs = [(&self.x, hidden), (&self.scores, experts), (&self.before, hidden)]
                .map(|(values, width)| Rig::input(device, rows, width, values));
            (each, correction, inputs)
        };
        let (mut rig, (each, correction, [x, scores, before])) =
            Rig::new(make, rows, rows.div_ceil(32), &[NO_HEADS], KvType::F32, 1, load);
        let buffers = [
            (Role::Normed, hidden),
            (Role::Scores, experts),
            (Role::Hidden, hidden),
            (Role::Gathered, hidden),
            (Role::ExpertInner, inner),
            (Role::Made, hidden),
        ];
        let [own_x, own_scores, into, gathered, inner, made] =
            buffers.map(|(role, width)| rig.buffer(role, width));
        rig.poison(x, gathered);
        rig.poison(x, made);
        let batch = rig.rows(tokens);
        for (table, buffer) in [(x, own_x), (scores, own_scores), (before, into)] {
            rig.device.embed(batch, table, buffer);
        }
        let experts = Experts { routing, correction, each: &each };
        rig.device.experts(batch, own_x, own_scores, experts, ExpertBuffers { gathered, inner, made }, into);
        rig.read(into, tokens.len())
    }
}

const ROUTINGS: [Routing; 3] = [
    Routing { chosen: 2, groups: 1, chosen_groups: 1, normalised: true, scale: 2.5 },
    Routing { chosen: 1, groups: 1, chosen_groups: 1, normalised: false, scale: 1.0 },
    Routing { chosen: 3, groups: 4, chosen_groups: 2, normalised: true, scale: 1.8 },
];

/// Sums over experts against the reference, for types that activations of 8 bits do not meet: some experts have no row, some
/// many.
pub fn sums_over_experts(candidate: &Candidate) {
    let mut rng = Random(71);
    for dtype in [DType::F32, DType::BF16, DType::Q8_0] {
        if dtype.is_quantized() && candidate.compute == Compute::Auto {
            continue;
        }
        for routing in ROUTINGS {
            for rows in [1, 3, 40] {
                let case = Case::random(&mut rng, dtype, rows, routing, 8);
                let all: Vec<u32> = (0..rows as u32).collect();
                let [found, expected] =
                    [candidate.make(), &reference as Make<'_>].map(|make| case.run(make, &all));
                // Two products after each other, of terms of about 1.
                let tolerance = 40.0 * ((candidate.tolerances.product)(dtype) + 1e-6);
                close(&format!("{dtype}, {rows} rows, {routing:?}"), &found, &expected, |_| tolerance);
            }
        }
    }
}

/// A row's bits are those it has alone, whatever experts the others choose.
pub fn rows_meet_experts_alone(candidate: &Candidate) {
    let mut rng = Random(72);
    for dtype in [DType::F32, DType::F16, DType::Q8_0, DType::Q4_0] {
        let case = Case::random(&mut rng, dtype, 24, ROUTINGS[0], 8);
        let all: Vec<u32> = (0..24).collect();
        let together = case.run(candidate.make(), &all);
        for some in [&[0][..], &[23], &[5, 6, 7], &[22, 3, 11, 0, 9]] {
            let found = case.run(candidate.make(), some);
            for (row, found) in some.iter().zip(found.chunks_exact(case.hidden)) {
                let from = *row as usize * case.hidden;
                assert_eq!(bits(found), bits(&together[from..from + case.hidden]), "{dtype}, row {row}");
            }
        }
    }
}

/// One expert that all rows choose, and many that nobody does.
pub fn all_rows_to_one_expert(candidate: &Candidate) {
    let mut rng = Random(73);
    let routing = Routing { chosen: 1, normalised: true, scale: 1.0, ..ROUTINGS[0] };
    let mut case = Case::random(&mut rng, DType::F32, 40, routing, 16);
    case.correction.fill(0.0);
    case.correction[11] = 9.0;
    let all: Vec<u32> = (0..40).collect();
    let [found, expected] = [candidate.make(), &reference as Make<'_>].map(|make| case.run(make, &all));
    close("one expert", &found, &expected, |_| 2e-4);
}
