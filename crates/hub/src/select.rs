//! Which files of a repository a model needs.

use std::collections::{BTreeMap, BTreeSet};

use crate::{HubError, Listing, RepoFile};

/// Which files are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Select {
    /// Of a repository with GGUFs, which quantization; without it the one that there is, or the first of a few usual ones.
    pub quantization: Option<String>,
}

/// The files that were chosen, and the one that is the model where a folder is not.
#[derive(Debug)]
pub(crate) struct Selected<'a> {
    pub(crate) files: Vec<&'a RepoFile>,
    /// A GGUF, of a split one its first part.
    pub(crate) gguf: Option<&'a RepoFile>,
}

/// Quantizations in the order in which one is taken when none is named.
const USUAL: [&str; 6] = ["Q4_K_M", "Q4_K_S", "Q4_0", "Q5_K_M", "Q8_0", "F16"];

/// The largest file that may stand beside weights.
const LARGEST_SMALL: u64 = 64 << 20;

/// Files beside weights are those of configuration, tokenizers, templates, code, and what is written for people.
const SMALL: [&str; 11] =
    ["json", "jsonl", "txt", "model", "tiktoken", "jinja", "py", "md", "vocab", "merges", "yaml"];

impl Select {
    /// The files of a listing that are wanted.
    ///
    /// Of a repository with safetensors those and the small files beside them; pickles only where there are no
    /// safetensors; of one with GGUFs one quantization, all its parts, and nothing else.
    pub(crate) fn of<'a>(&self, listing: &'a Listing) -> Result<Selected<'a>, HubError> {
        let fail = |what: String| Err(HubError::Selection { repo: listing.repo.clone(), what });
        let files = |is: fn(&str) -> bool| -> Vec<&RepoFile> {
            listing.files.iter().filter(|file| is(&file.path)).collect()
        };
        let (safe, pickled, ggufs) = (files(is_safetensors), files(is_pickle), files(is_gguf));
        if self.quantization.is_some() && ggufs.is_empty() {
            return fail("it has no GGUFs, so that there is no quantization to choose".to_owned());
        }
        let weights = if safe.is_empty() { pickled } else { safe };
        if self.quantization.is_none() && !weights.is_empty() {
            let small = listing.files.iter().filter(|file| is_small(file));
            return Ok(Selected { files: small.chain(weights).collect(), gguf: None });
        }
        if ggufs.is_empty() {
            return fail("it has neither safetensors nor pytorch_model*.bin nor GGUFs".to_owned());
        }
        let groups = groups(&ggufs);
        let name = match self.choose(&groups) {
            Ok(name) => name,
            Err(what) => return fail(what),
        };
        let group = &groups[name];
        if let Some(count) = part(&group[0].path).map(|(_, _, count)| count)
            && group.len() != count
        {
            return fail(format!("{name:.100} has {count} parts, of which {} are listed", group.len()));
        }
        let told = listing.files.iter().filter(|file| is_small(file) && is_for_people(&file.path));
        Ok(Selected { files: told.chain(group.iter().copied()).collect(), gguf: Some(group[0]) })
    }

    /// The name of the group that is wanted.
    fn choose<'g>(&self, groups: &'g BTreeMap<&str, Vec<&RepoFile>>) -> Result<&'g str, String> {
        let of = |wanted: &str| -> Vec<&'g str> {
            groups.keys().copied().filter(|name| names(name, wanted)).collect()
        };
        let there = || groups.keys().copied().collect::<Vec<_>>().join(", ");
        let found = match &self.quantization {
            Some(wanted) => of(wanted),
            None if groups.len() == 1 => groups.keys().copied().collect(),
            None => USUAL.iter().map(|wanted| of(wanted)).find(|found| !found.is_empty()).unwrap_or_default(),
        };
        match (found.as_slice(), &self.quantization) {
            ([name], _) => Ok(name),
            ([], Some(wanted)) => Err(format!("it has no {wanted}; there are: {:.150}", there())),
            ([], None) => Err(format!("name a quantization after a colon; there are: {:.150}", there())),
            (several, _) => Err(format!("several of its files match: {:.150}", several.join(", "))),
        }
    }
}

/// GGUFs by their names without numbers of parts, the parts in order. Projectors of images are no models.
fn groups<'a>(ggufs: &[&'a RepoFile]) -> BTreeMap<&'a str, Vec<&'a RepoFile>> {
    let mut groups: BTreeMap<&str, Vec<&RepoFile>> = BTreeMap::new();
    let file_name = |path: &'a str| path.rsplit('/').next().unwrap_or_default();
    for file in ggufs.iter().filter(|file| !file_name(&file.path).starts_with("mmproj")) {
        let stem = file.path.strip_suffix(".gguf").unwrap_or(&file.path);
        groups.entry(part(&file.path).map_or(stem, |(stem, _, _)| stem)).or_default().push(file);
    }
    groups.values_mut().for_each(|files| files.sort_by(|a, b| a.path.cmp(&b.path)));
    groups
}

/// `STEM-00002-of-00003.gguf`: stem, number and count.
fn part(path: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = path.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    Some((stem, number.parse().ok()?, count.parse().ok().filter(|count| *count > 0)?))
}

/// Whether a GGUF's name says a quantization: as a word of the name or of a folder, large or small letters.
pub(crate) fn names(name: &str, wanted: &str) -> bool {
    let (name, wanted) = (name.to_ascii_uppercase(), wanted.to_ascii_uppercase());
    let is_edge = |c: Option<char>| c.is_none_or(|c| "-./_".contains(c));
    name.match_indices(&wanted).any(|(at, _)| {
        let rest = &name[at + wanted.len()..];
        // `_` goes on in Q4_K_M, where Q4_K is another.
        is_edge(name[..at].chars().last()) && is_edge(rest.chars().next()) && !rest.starts_with('_')
    })
}

fn extension(path: &str) -> &str {
    path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map_or("", |(_, extension)| extension)
}

fn is_safetensors(path: &str) -> bool {
    !path.contains('/') && extension(path) == "safetensors"
}

fn is_pickle(path: &str) -> bool {
    !path.contains('/') && path.starts_with("pytorch_model") && extension(path) == "bin"
}

fn is_gguf(path: &str) -> bool {
    extension(path) == "gguf"
}

/// Whether it is a text about the model: its licence, its page.
fn is_for_people(path: &str) -> bool {
    !path.contains('/')
        && (path.to_ascii_uppercase().contains("LICEN") || extension(path) == "md" || path == "NOTICE")
}

fn is_small(file: &RepoFile) -> bool {
    file.size <= LARGEST_SMALL && (SMALL.contains(&extension(&file.path)) || is_for_people(&file.path))
}

/// The files that an index of shards (`model.safetensors.index.json`, `pytorch_model.bin.index.json`) names, where the text
/// is one.
pub(crate) fn shards(index: &str) -> BTreeSet<String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    serde_json::from_str::<Index>(index)
        .map(|index| index.weight_map.into_values().collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HubKind;

    fn listing(paths: &[&str]) -> Listing {
        let file =
            |path: &&str| RepoFile { path: (*path).to_owned(), size: 1, sha256: None, git: None, xet: None };
        Listing {
            hub: HubKind::HuggingFace,
            repo: "a/b".parse().unwrap(),
            moved_to: None,
            revision: "main".to_owned(),
            commit: "0".repeat(40),
            files: paths.iter().map(file).collect(),
            licence: None,
        }
    }

    fn selected(paths: &[&str], quantization: Option<&str>) -> Result<(Vec<String>, Option<String>), String> {
        let listing = listing(paths);
        let select = Select { quantization: quantization.map(str::to_owned) };
        let found = select.of(&listing).map_err(|e| e.to_string())?;
        let paths = found.files.iter().map(|file| file.path.clone()).collect();
        Ok((paths, found.gguf.map(|file| file.path.clone())))
    }

    #[test]
    fn pickles_are_taken_only_where_there_is_nothing_better() {
        let small =
            ["config.json", "tokenizer.model", "1_Pooling/config.json", "LICENSE", "modeling_chatglm.py"];
        let other = [
            "onnx/model.onnx",
            "openvino/openvino_model.bin",
            "training_args.bin",
            "image.png",
            "flax_model.msgpack",
        ];
        let both = ["model-00001-of-00002.safetensors", "pytorch_model.bin"];
        let (found, gguf) = selected(&[&small[..], &other, &both].concat(), None).unwrap();
        assert_eq!(
            (found, gguf),
            (
                [&small[..], &["model-00001-of-00002.safetensors"]]
                    .concat()
                    .iter()
                    .map(|s| s.to_string())
                    .collect(),
                None
            )
        );
        let (found, _) = selected(&[&small[..], &other, &["pytorch_model.bin"]].concat(), None).unwrap();
        assert!(
            found.contains(&"pytorch_model.bin".to_owned())
                && !found.contains(&"training_args.bin".to_owned())
        );
        assert!(selected(&small, None).unwrap_err().contains("neither safetensors"));
    }

    #[test]
    fn one_quantization_is_taken_with_all_its_parts() {
        let files = [
            "README.md",
            "config.json",
            "ggml-model-Q4_K.gguf",
            "ggml-model-Q4_K_M.gguf",
            "ggml-model-Q8_0.gguf",
            "mmproj-model-Q4_K_M.gguf",
            "BF16/m-BF16-00001-of-00002.gguf",
            "BF16/m-BF16-00002-of-00002.gguf",
        ];
        let of = |quantization| selected(&files, quantization);
        assert_eq!(of(None).unwrap().1.as_deref(), Some("ggml-model-Q4_K_M.gguf"));
        assert_eq!(of(Some("q4_k")).unwrap().1.as_deref(), Some("ggml-model-Q4_K.gguf"));
        let (found, first) = of(Some("bf16")).unwrap();
        assert_eq!(found, ["README.md", files[6], files[7]]);
        assert_eq!(first.as_deref(), Some(files[6]));
        assert!(
            of(Some("Q2_K"))
                .unwrap_err()
                .contains("it has no Q2_K; there are: BF16/m-BF16, ggml-model-Q4_K,")
        );
        assert!(
            selected(&files[..7], Some("BF16")).unwrap_err().contains("has 2 parts, of which 1 are listed")
        );
        assert!(
            selected(&["a-Q3_K_S.gguf", "a-Q2_K.gguf"], None).unwrap_err().contains("name a quantization")
        );
        assert_eq!(selected(&["a-Q2_K.gguf"], None).unwrap().1.as_deref(), Some("a-Q2_K.gguf"));
        assert!(selected(&["model.safetensors"], Some("Q4_0")).unwrap_err().contains("no GGUFs"));
    }

    #[test]
    fn an_index_names_its_shards() {
        let index =
            r#"{"metadata": {"total_size": 3}, "weight_map": {"a": "2.bin", "b": "1.bin", "c": "2.bin"}}"#;
        assert_eq!(shards(index).into_iter().collect::<Vec<_>>(), ["1.bin", "2.bin"]);
        assert!(shards("[]").is_empty());
    }
}
