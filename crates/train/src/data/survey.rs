//! One look at all of the data: how long examples are, what is cut, what is refused.

use super::dataset::Dataset;
use super::error::DataError;

/// What the rows of a file become.
#[derive(Debug, Default)]
pub struct Survey {
    /// Tokens of every example, in the order of the file.
    pub tokens: Vec<u32>,
    /// Those of them that are learned, by example.
    pub learned: Vec<u32>,
    /// Rows that were cut: (line, tokens cut off).
    pub cut: Vec<(u64, usize)>,
    /// Rows that cannot be learned from.
    pub refused: Vec<Refused>,
}

/// A row that cannot be learned from.
#[derive(Debug)]
pub struct Refused {
    /// The line, from 1.
    pub line: u64,
    /// Why, with file and line.
    pub why: DataError,
}

/// A few figures of many lengths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lengths {
    /// How many there are.
    pub count: usize,
    /// All together.
    pub sum: u64,
    /// The smallest.
    pub min: u32,
    /// The middle one; of an even number the lower of the two.
    pub median: u32,
    /// The smallest that 95 of 100 do not exceed.
    pub p95: u32,
    /// The largest.
    pub max: u32,
}

impl Survey {
    /// Renders every row, telling `watch` how many are done.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn of(data: &Dataset<'_>, mut watch: impl FnMut(usize)) -> Result<Survey, DataError> {
        let mut survey = Survey::default();
        for row in 0..data.file().len() {
            match data.render(row) {
                Ok(rendering) => {
                    if rendering.cut > 0 {
                        survey.cut.push((data.file().line(row), rendering.cut));
                    }
                    for example in &rendering.examples {
                        survey.tokens.push(example.ids.len() as u32);
                        survey.learned.push(example.targets().count() as u32);
                    }
                }
                Err(why @ DataError::Row { line, .. }) => survey.refused.push(Refused { line, why }),
                Err(error) => return Err(error),
            }
            watch(row + 1);
        }
        Ok(survey)
    }
}

impl Lengths {
    /// Those of a list.
    pub fn of(lengths: &[u32]) -> Lengths {
        let mut sorted = lengths.to_vec();
        sorted.sort_unstable();
        let at = |hundredths: usize| {
            let place = (sorted.len() * hundredths).div_ceil(100).max(1) - 1;
            sorted.get(place).copied().unwrap_or(0)
        };
        Lengths {
            count: sorted.len(),
            sum: sorted.iter().map(|&n| u64::from(n)).sum(),
            min: at(0),
            median: at(50),
            p95: at(95),
            max: at(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_lengths() {
        let lengths = Lengths::of(&(1..=100).collect::<Vec<_>>());
        assert_eq!(lengths, Lengths { count: 100, sum: 5050, min: 1, median: 50, p95: 95, max: 100 });
        assert_eq!(Lengths::of(&[7]), Lengths { count: 1, sum: 7, min: 7, median: 7, p95: 7, max: 7 });
        assert_eq!(Lengths::of(&[]), Lengths::default());
    }
}
