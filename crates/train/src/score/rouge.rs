//! ROUGE (Lin, 2004) as `rouge_chinese` 1.0.3 computes it: n-grams as sets, over all sentences as one; the F of equal weight.

use std::collections::HashSet;

/// F of words, of pairs of words, and of the longest common subsequence, each from 0 to 1, of texts whose words have a space
/// between them.
pub fn rouge(written: &str, wanted: &str) -> [f64; 3] {
    let (written, wanted) = (sentences(written), sentences(wanted));
    let [written, wanted] = [&written, &wanted].map(|text| words(text));
    if written.is_empty() || wanted.is_empty() {
        return [0.0; 3];
    }
    let grams = |n| {
        let [a, b] = [&written, &wanted].map(|words| words.windows(n).collect::<HashSet<_>>());
        f_score(a.intersection(&b).count(), a.len(), b.len())
    };
    let common = longest_common_subsequence(&written, &wanted);
    [grams(1), grams(2), f_score(common, written.len(), wanted.len())]
}

fn f_score(common: usize, written: usize, wanted: usize) -> f64 {
    let share = |count: usize| if count == 0 { 0.0 } else { common as f64 / count as f64 };
    let (precision, recall) = (share(written), share(wanted));
    2.0 * (precision * recall / (precision + recall + 1e-8))
}

/// What counts as a word: between spaces; a sentence of blanks is a word without letters.
fn words(sentences: &[String]) -> Vec<&str> {
    sentences.iter().flat_map(|sentence| sentence.split(' ')).collect()
}

/// The sentences of a text, blanks in them made one space.
fn sentences(text: &str) -> Vec<String> {
    let mut text: Vec<char> = text.chars().collect();
    let ends = |c: char| matches!(c, '。' | '！' | '？' | '?');
    let quotes = |c: char| matches!(c, '”' | '’');
    text = broken(&text, 1, |head| ends(head[0]), |next| !quotes(next));
    text = broken(&text, 6, |head| head.iter().all(|c| *c == '.'), |next| !quotes(next));
    text = broken(&text, 2, |head| head.iter().all(|c| *c == '…'), |next| !quotes(next));
    text = broken(&text, 2, |head| ends(head[0]) && quotes(head[1]), |next| !ends(next) && next != '，');
    let text: String = text.into_iter().collect();
    let lines = text.trim_end_matches(is_blank).split('\n').filter(|line| !line.is_empty());
    lines
        .map(|line| line.split(is_blank).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
        .collect()
}

/// Puts a line break behind every `len` characters that are an end, if one follows that lets it; that one begins no other end.
fn broken(
    text: &[char],
    len: usize,
    is_end: impl Fn(&[char]) -> bool,
    lets: impl Fn(char) -> bool,
) -> Vec<char> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        match rest.split_at_checked(len) {
            Some((head, [next, tail @ ..])) if is_end(head) && lets(*next) => {
                out.extend_from_slice(head);
                out.extend(['\n', *next]);
                rest = tail;
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// What Python takes for a blank.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

fn longest_common_subsequence(a: &[&str], b: &[&str]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for x in a {
        let mut before = 0;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = if x == y { before + 1 } else { above.max(row[j]) };
            before = above;
        }
    }
    row[b.len()]
}
