//! In which order the rows of an epoch are taken: a function of (seed, epoch), so that it can be gone on with from anywhere.

/// The order of one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    rows: Vec<u32>,
}

impl Order {
    /// All rows as they stand in the file.
    pub fn of_file(rows: usize) -> Order {
        Order { rows: (0..rows as u32).collect() }
    }

    /// All rows, shuffled (Fisher and Yates).
    pub fn shuffled(rows: usize, seed: u64, epoch: u64) -> Order {
        let mut order = Order::of_file(rows);
        let mut random = SplitMix(SplitMix(seed).next() ^ epoch.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for last in (1..order.rows.len()).rev() {
            order.rows.swap(last, random.below(last as u64 + 1) as usize);
        }
        order
    }

    /// The row at a place; none behind the last.
    pub fn row(&self, place: usize) -> Option<usize> {
        self.rows.get(place).map(|row| *row as usize)
    }
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators" (2014).
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, each as likely (Lemire 2019).
    fn below(&mut self, bound: u64) -> u64 {
        loop {
            let product = u128::from(self.next()) * u128::from(bound);
            if product as u64 >= bound.wrapping_neg() % bound {
                return (product >> 64) as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_row_once_and_the_same_every_time(rows in 0usize..300, seed: u64, epoch in 0u64..50) {
            let order = Order::shuffled(rows, seed, epoch);
            prop_assert_eq!(&order, &Order::shuffled(rows, seed, epoch));
            let mut sorted = order.rows.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, Order::of_file(rows).rows);
            prop_assert_eq!(order.row(rows), None);
        }
    }

    #[test]
    fn epochs_and_seeds_differ() {
        let order = |seed, epoch| Order::shuffled(100, seed, epoch);
        assert_ne!(order(1, 0), order(1, 1));
        assert_ne!(order(1, 0), order(2, 0));
    }
}
