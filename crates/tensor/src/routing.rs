//! Which experts a row meets.

use std::cmp::Ordering;

/// How a row chooses among the experts of a layer, by a score for each: the router of DeepSeek-V3 (2024), as transformers'
/// `Glm4MoeTopkRouter` has it.
///
/// A score becomes `s = sigmoid(score)`. Chosen are the experts with the largest `s + correction` within the groups whose two
/// best sum to most; what they weigh is `s`, where `normalised` divided by the sum over the chosen ones, times `scale`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Routing {
    /// Experts that a row meets, at least one and at most as many as there are.
    pub chosen: usize,
    /// Groups that the experts are divided into, of equal size.
    pub groups: usize,
    /// Groups that experts are chosen from.
    pub chosen_groups: usize,
    /// Whether the weights of a row's experts sum to `scale`.
    pub normalised: bool,
    /// Factor on all weights.
    pub scale: f32,
}

/// What choosing needs room for: kept between rows and steps, it allocates nothing.
#[derive(Clone, Debug, Default)]
pub struct Chooser {
    ranks: Vec<f32>,
    groups: Vec<(usize, f32)>,
    order: Vec<u32>,
}

impl Chooser {
    /// Appends a row's experts, ascending, with their weights. Of equal ones the first is chosen, and one whose score is not
    /// a number last of all.
    pub fn choose(
        &mut self,
        routing: &Routing,
        scores: &[f32],
        correction: &[f32],
        out: &mut Vec<(u32, f32)>,
    ) {
        self.ranks.clear();
        self.ranks.extend(scores.iter().zip(correction).map(|(&score, add)| sigmoid(score) + add));
        self.leave_out_groups(routing);
        let Chooser { ranks, order, .. } = self;
        order.clear();
        order.extend(0..ranks.len() as u32);
        let rank = |&expert: &u32| ranks[expert as usize];
        if routing.chosen < order.len() {
            order
                .select_nth_unstable_by(routing.chosen, |a, b| larger_first(rank(a), rank(b)).then(a.cmp(b)));
            order.truncate(routing.chosen);
        }
        order.sort_unstable();
        let weight = |&expert: &u32| sigmoid(scores[expert as usize]);
        let sum: f32 = order.iter().map(weight).sum();
        let factor = if routing.normalised { routing.scale / (sum + 1e-20) } else { routing.scale };
        out.extend(order.iter().map(|expert| (*expert, weight(expert) * factor)));
    }

    /// Puts experts of groups that lose behind all others.
    fn leave_out_groups(&mut self, routing: &Routing) {
        if routing.chosen_groups >= routing.groups {
            return;
        }
        let Chooser { ranks, groups, .. } = self;
        let size = ranks.len() / routing.groups;
        groups.clear();
        groups.extend(ranks.chunks_exact(size).map(two_best).enumerate());
        groups.sort_unstable_by(|a, b| larger_first(a.1, b.1).then(a.0.cmp(&b.0)));
        for (group, _) in &groups[routing.chosen_groups..] {
            ranks[group * size..(group + 1) * size].fill(f32::NEG_INFINITY);
        }
    }
}

/// Descending; what is not a number comes last.
fn larger_first(a: f32, b: f32) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// The sum of the two largest.
fn two_best(ranks: &[f32]) -> f32 {
    let (mut first, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
    for &rank in ranks {
        if rank > first {
            (first, second) = (rank, first);
        } else if rank > second {
            second = rank;
        }
    }
    if ranks.len() > 1 { first + second } else { first }
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use super::{Chooser, Routing};

    const PLAIN: Routing = Routing { chosen: 2, groups: 1, chosen_groups: 1, normalised: true, scale: 2.0 };

    fn choose(routing: Routing, scores: &[f32], correction: &[f32]) -> Vec<(u32, f32)> {
        let mut out = Vec::new();
        Chooser::default().choose(&routing, scores, correction, &mut out);
        out
    }

    #[test]
    fn correction_chooses_and_does_not_weigh() {
        let found = choose(PLAIN, &[0.0, 0.0, -9.0, 5.0], &[0.0, 0.0, 3.0, 0.0]);
        assert_eq!([found[0].0, found[1].0], [2, 3]);
        let share = |score: f32| 1.0 / (1.0 + (-score).exp());
        let whole = share(-9.0) + share(5.0);
        assert!((found[0].1 - 2.0 * share(-9.0) / whole).abs() < 1e-6);
        assert!((found[0].1 + found[1].1 - 2.0).abs() < 1e-6);
    }

    #[test]
    fn ties_go_to_the_first_and_nan_to_nobody_while_there_are_others() {
        assert_eq!(choose(PLAIN, &[1.0; 5], &[0.0; 5]).iter().map(|e| e.0).collect::<Vec<_>>(), [0, 1]);
        let found = choose(PLAIN, &[f32::NAN, 0.0, f32::NAN, -3.0], &[0.0; 4]);
        assert_eq!(found.iter().map(|e| e.0).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(choose(PLAIN, &[f32::NAN; 3], &[0.0; 3]).len(), 2);
    }

    #[test]
    fn experts_of_losing_groups_are_left_out_even_where_all_corrections_are_negative() {
        let routing = Routing { chosen: 2, groups: 2, chosen_groups: 1, ..PLAIN };
        // The best single expert is in the group whose two best are less.
        let found = choose(routing, &[9.0, -9.0, 2.0, 2.0], &[-5.0; 4]);
        assert_eq!(found.iter().map(|e| e.0).collect::<Vec<_>>(), [2, 3]);
    }
}
