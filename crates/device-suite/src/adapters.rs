//! What adapters have beside matrices: against the reference device, and bit for bit whatever the company. A device that has
//! no kernels for it says so.

use crate::rig::{NO_HEADS, Random, Rig, Weights, bits};
use crate::{Candidate, Make};
use glimmer_tensor::{
    AdapterSlot, Batch, BufferId, Compute, DType, DeviceError, Epilogue, KvType, MatrixId, MatrixUse, PageId,
    Pair, ReferenceDevice, Role,
};

const COLS: usize = 256;
const ROWS: usize = 112;
const COUNT: usize = 40;

/// A pair that owns its numbers.
struct Owned {
    rank: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    row_scale: Option<Vec<f32>>,
}

impl Owned {
    fn random(rng: &mut Random, rank: usize, scales: bool) -> Self {
        let mut numbers = |n: usize, size: f32| rng.normals(n).iter().map(|v| size * v).collect();
        Owned {
            rank,
            a: numbers(rank * COLS, 0.1),
            b: numbers(ROWS * rank, 0.2),
            row_scale: scales.then(|| numbers(ROWS, 1.0)),
        }
    }

    fn pair(&self) -> Pair<'_> {
        Pair { rank: self.rank, a: &self.a, b: &self.b, row_scale: self.row_scale.as_deref() }
    }
}

/// A device with a matrix and adapters beside it.
struct Stage {
    rig: Rig,
    input: MatrixId,
    addend: MatrixId,
    w: MatrixId,
    x: BufferId,
    out: BufferId,
    epilogue: Epilogue,
}

impl Stage {
    fn new(make: Make<'_>, dtype: DType, epilogue: Option<Epilogue>) -> Self {
        let mut rng = Random(51);
        let gated = epilogue == Some(Epilogue::SwiGlu);
        let width = if gated { ROWS / 2 } else { ROWS };
        let weights = Weights::random(&mut rng, dtype, ROWS, COLS);
        let bias = rng.normals(ROWS);
        let (values, addends) = (rng.normals(COUNT * COLS), rng.normals(COUNT * width));
        let (mut rig, (w, input, addend)) =
            Rig::new(make, COUNT, 2 * COUNT, &[NO_HEADS], KvType::F32, 1, |device| {
                let used_for = if gated { MatrixUse::Gated } else { MatrixUse::Linear };
                // Parts whose rows are no whole tiles.
                let parts = [weights.view().slice_rows(0..40), weights.view().slice_rows(40..ROWS)];
                let w = device.load_matrix(&parts, Some(&bias), used_for, &|_| ()).unwrap();
                (w, Rig::input(device, COUNT, COLS, &values), Rig::input(device, COUNT, width, &addends))
            });
        let (x, out) = (rig.buffer(Role::Hidden, COLS), rig.buffer(Role::Branch, width));
        let epilogue = epilogue.unwrap_or(Epilogue::Residual { from: out, scale: 1.5 });
        Stage { rig, input, addend, w, x, out, epilogue }
    }

    /// The product for sequences of these rows with these adapters.
    fn product(&mut self, sequences: &[(&[u32], Option<AdapterSlot>)]) -> Vec<f32> {
        self.rig.poison(self.addend, self.out);
        let mut batch = Batch::default();
        let mut page: PageId = 0;
        for (rows, adapter) in sequences {
            let pages = rows.len().div_ceil(32) as PageId;
            batch.push(rows, 0..rows.len(), &vec![0.0; rows.len()], 0, (page..page + pages).collect(), []);
            batch.adapt(*adapter);
            page += pages;
        }
        let step = self.rig.upload(&batch);
        let device = &mut self.rig.device;
        device.embed(step, self.input, self.x);
        device.embed(step, self.addend, self.out);
        device.linear(step, self.x, self.w, self.epilogue, self.out);
        self.rig.read(self.out, batch.rows())
    }

    /// Puts a pair beside the matrix; false where the device says that it cannot.
    fn attach(&mut self, slot: AdapterSlot, pair: &Owned) -> bool {
        match self.rig.device.attach(self.w, slot, pair.pair()) {
            Ok(()) => true,
            Err(DeviceError::Failed(what)) => {
                assert!(what.contains("adapters"), "{what}");
                false
            }
            Err(other) => panic!("{other}"),
        }
    }
}

const EPILOGUES: [Option<Epilogue>; 4] =
    [Some(Epilogue::None), Some(Epilogue::Gelu), Some(Epilogue::SwiGlu), None];

fn types() -> impl Iterator<Item = DType> {
    [DType::F32, DType::BF16, DType::Q8_0, DType::Q4_K].into_iter()
}

/// Sequences with and without adapters, each row's product beside the reference's.
pub fn pairs_beside_products(candidate: &Candidate) {
    let reference: Make<'_> = &|| Box::new(ReferenceDevice::new());
    let rows: Vec<u32> = (0..COUNT as u32).collect();
    let sequences =
        [(&rows[..3], None), (&rows[3..4], Some(0)), (&rows[4..29], Some(2)), (&rows[29..], Some(1))];
    for (dtype, epilogue) in types().flat_map(|dtype| EPILOGUES.map(|epilogue| (dtype, epilogue))) {
        let mut rng = Random(52);
        let pairs =
            [(1, false), (8, true), (37, false)].map(|(rank, scales)| Owned::random(&mut rng, rank, scales));
        let mut stages = [candidate.make(), reference].map(|make| Stage::new(make, dtype, epilogue));
        let without = stages.each_mut().map(|stage| stage.product(&sequences));
        for (slot, pair) in pairs.iter().enumerate() {
            if !stages[0].attach(slot as AdapterSlot, pair) {
                return;
            }
            assert!(stages[1].attach(slot as AdapterSlot, pair));
        }
        let [found, expected] = stages.each_mut().map(|stage| stage.product(&sequences));
        let differ = |a: &[f32], b: &[f32]| a.iter().zip(b).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
        let size = expected.iter().fold(1f32, |m, v| m.max(v.abs()));
        // What activations of 8 bits change without any adapter, and what f32 rounds of sums of some hundred terms.
        let plain = differ(&without[0], &without[1]);
        let eight_bits = if candidate.compute == Compute::F32 { 1.0 } else { 4.0 };
        let allowed = eight_bits * plain + 2e-5 * size;
        let worst = differ(&found, &expected);
        assert!(worst <= allowed, "{dtype} {epilogue:?}: {worst}, allowed {allowed}");
        assert!(differ(&expected, &without[1]) > 0.1, "adapters change something");
        let width = found.len() / COUNT;
        assert_eq!(
            bits(&found[..3 * width]),
            bits(&without[0][..3 * width]),
            "{dtype}: rows without an adapter"
        );
    }
}

/// Rows keep their bits alone, in other batches, and beside other adapters.
pub fn rows_with_adapters_do_not_depend_on_company(candidate: &Candidate) {
    let rows: Vec<u32> = (0..COUNT as u32).collect();
    for (dtype, epilogue) in types().flat_map(|dtype| EPILOGUES.map(|epilogue| (dtype, epilogue))) {
        let mut rng = Random(53);
        let mut stage = Stage::new(candidate.make(), dtype, epilogue);
        let plain = bits(&stage.product(&[(&rows, None)]));
        for (slot, rank) in [(0, 4), (1, 20), (3, 16)] {
            if !stage.attach(slot, &Owned::random(&mut rng, rank, slot == 3)) {
                return;
            }
        }
        let width = plain.len() / COUNT;
        assert_eq!(bits(&stage.product(&[(&rows, None)])), plain, "{dtype}: nobody has one");
        // A slot that nothing is attached to is one that has nothing beside this matrix.
        assert_eq!(bits(&stage.product(&[(&rows, Some(7))])), plain, "{dtype}: an empty slot");
        let all = |stage: &mut Stage, slot| bits(&stage.product(&[(&rows, Some(slot))]));
        let whole = [0, 1, 3].map(|slot| all(&mut stage, slot));
        let mixed = [
            (&rows[7..9], Some(0)),
            (&rows[20..25], None),
            (&rows[0..1], Some(1)),
            (&rows[30..38], Some(3)),
            (&rows[11..12], Some(0)),
        ];
        for count in [1, 3, 5] {
            let found = bits(&stage.product(&mixed[..count]));
            let mut at = 0;
            for (rows, adapter) in &mixed[..count] {
                let (from, to) = (rows[0] as usize * width, (rows[0] as usize + rows.len()) * width);
                let of = match adapter {
                    Some(slot) => &whole[(*slot as usize).min(2)],
                    None => &plain,
                };
                assert!(
                    found[at..at + to - from] == of[from..to],
                    "{dtype} {epilogue:?}: {rows:?} {adapter:?}"
                );
                at += to - from;
            }
        }
    }
}

/// A slot that was let go of has nothing; one that is used again has only what is new. Memory comes back.
pub fn a_slot_is_used_again(candidate: &Candidate) {
    let rows: Vec<u32> = (0..9).collect();
    let mut rng = Random(54);
    let [first, second] = [8, 5].map(|rank| Owned::random(&mut rng, rank, rank == 8));
    let mut stage = Stage::new(candidate.make(), DType::F32, Some(Epilogue::None));
    let weights = stage.rig.device.memory().weights;
    let plain = bits(&stage.product(&[(&rows, Some(0))]));
    if !stage.attach(0, &first) {
        return;
    }
    assert!(stage.rig.device.memory().weights > weights);
    let with_first = bits(&stage.product(&[(&rows, Some(0))]));
    stage.rig.device.detach(0);
    assert_eq!(stage.rig.device.memory().weights, weights);
    assert_eq!(bits(&stage.product(&[(&rows, Some(0))])), plain);
    assert!(stage.attach(0, &second) && stage.attach(0, &first));
    assert_eq!(bits(&stage.product(&[(&rows, Some(0))])), with_first);
    let wrong = Pair { rank: 3, ..first.pair() };
    assert!(matches!(stage.rig.device.attach(stage.w, 0, wrong), Err(DeviceError::Weight(_))));
    let mut row = vec![0.0; COLS];
    stage.rig.device.matrix_row(stage.w, ROWS - 1, &mut row).unwrap();
    assert!(row.iter().any(|&v| v != 0.0));
}
