//! Names: hubs, repositories, files. All of them may come from a stranger and become paths of this machine.

use std::fmt;
use std::str::FromStr;

use crate::HubError;

/// A hub of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HubKind {
    /// huggingface.co, or a mirror of it.
    HuggingFace,
    /// modelscope.cn.
    ModelScope,
}

impl HubKind {
    /// Both.
    pub const ALL: [HubKind; 2] = [HubKind::HuggingFace, HubKind::ModelScope];

    /// As a flag spells it.
    pub const fn name(self) -> &'static str {
        match self {
            HubKind::HuggingFace => "huggingface",
            HubKind::ModelScope => "modelscope",
        }
    }

    /// The revision that is meant when none is named.
    pub fn default_revision(self) -> &'static str {
        match self {
            HubKind::HuggingFace => "main",
            HubKind::ModelScope => "master",
        }
    }
}

impl fmt::Display for HubKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HubKind::HuggingFace => "Hugging Face",
            HubKind::ModelScope => "ModelScope",
        })
    }
}

/// A repository of a hub, `owner/name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoId(String);

impl RepoId {
    /// Its owner, an organisation or a person.
    pub fn owner(&self) -> &str {
        self.0.split('/').next().unwrap_or_default()
    }

    /// Its name, without the owner.
    pub fn name(&self) -> &str {
        self.0.split('/').nth(1).unwrap_or_default()
    }

    /// As both hubs' caches name its folder, after what they put before it: `owner--name`.
    pub(crate) fn folder(&self) -> String {
        self.0.replace('/', "--")
    }
}

impl FromStr for RepoId {
    type Err = HubError;

    /// Hugging Face's rules: 96 characters at most, of each part letters, digits, `-`, `_` and `.`, neither `-` nor `.` at its
    /// ends, no `--` and no `..`, no `.git` at the end.
    fn from_str(text: &str) -> Result<Self, HubError> {
        let is_part = |part: &str| {
            let ends = |c: char| c == '-' || c == '.';
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
                && !part.starts_with(ends)
                && !part.ends_with(ends)
                && !part.contains("--")
                && !part.contains("..")
                && !part.ends_with(".git")
        };
        let is_id = text.len() <= 96 && text.split('/').count() == 2 && text.split('/').all(is_part);
        if is_id { Ok(RepoId(text.to_owned())) } else { Err(HubError::Id(text.to_owned())) }
    }
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person types: a repository, and of one with GGUFs which quantization: `zai-org/glm-edge-1.5b-chat-gguf:Q4_K_M`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    /// The repository.
    pub repo: RepoId,
    /// What stands after the colon.
    pub quantization: Option<String>,
}

impl FromStr for HubId {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        let (repo, quantization) = match text.split_once(':') {
            Some((repo, quantization)) => (repo, Some(quantization)),
            None => (text, None),
        };
        let is_quantization = |text: &str| {
            (1..=40).contains(&text.len())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        if quantization.is_some_and(|text| !is_quantization(text)) {
            return Err(HubError::Id(text.to_owned()));
        }
        Ok(HubId { repo: repo.parse()?, quantization: quantization.map(str::to_owned) })
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.repo)?;
        self.quantization.iter().try_for_each(|quantization| write!(f, ":{quantization}"))
    }
}

/// The longest part of a path: what file systems allow, less what the name of an unfinished file adds.
const LONGEST_PART: usize = 230;
const LONGEST_PATH: usize = 1024;

/// Holds the path of a file in a repository, or a revision's name, to what may become a path below a folder.
pub(crate) fn check_path(path: &str) -> Result<(), HubError> {
    let refuse = |why| Err(HubError::Name { name: path.to_owned(), why });
    if path.len() > LONGEST_PATH || path.split('/').any(|part| part.len() > LONGEST_PART) {
        return refuse("it is too long");
    }
    if path.chars().any(|c| c.is_control() || c == '\\') {
        return refuse("it has characters that no name needs");
    }
    // An absolute path begins with an empty part.
    if path.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
        return refuse("it leaves its folder");
    }
    if path.split('/').any(|part| part.eq_ignore_ascii_case(".git")) {
        return refuse("it reaches into git's own folder");
    }
    Ok(())
}

/// Whether a text can be the name of a blob, as an ETag gives it.
pub(crate) fn is_blob_name(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        && !text.starts_with('.')
}

/// Whether a text is a commit of git.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_an_owner_and_a_name() {
        let id: HubId = "zai-org/glm-edge-1.5b-chat-gguf:Q4_K_M".parse().unwrap();
        assert_eq!((id.repo.owner(), id.repo.name()), ("zai-org", "glm-edge-1.5b-chat-gguf"));
        assert_eq!(id.quantization.as_deref(), Some("Q4_K_M"));
        assert_eq!(id.to_string(), "zai-org/glm-edge-1.5b-chat-gguf:Q4_K_M");
        for bad in [
            "", "glm", "a/b/c", "../b", "a/..", "a//b", "/a", "a/", "a/b.git", "a--b/c", "a/-b", "a/b.",
            "ä/b", "a/b:", "a/b:Q4/K", "a/b\0", "a/b c",
        ] {
            assert!(bad.parse::<HubId>().is_err(), "{bad:?}");
        }
        assert!(format!("a/{}", "b".repeat(95)).parse::<RepoId>().is_err());
    }

    #[test]
    fn hostile_names_are_refused() {
        for good in
            ["config.json", "1_Pooling/config.json", "名.txt", "..a/b..", "Q4_K_M/m-00001-of-00002.gguf"]
        {
            check_path(good).unwrap();
        }
        let long = "a".repeat(231);
        for bad in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a/",
            "./a",
            "a\0b",
            "a\nb",
            "\x1b[2J",
            "..\\x",
            ".git/hooks/x",
            "a/.GIT/config",
            &long,
        ] {
            assert!(check_path(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "..", ".a", "a/b", "a b", "\"a\""] {
            assert!(!is_blob_name(bad), "{bad:?}");
        }
    }
}
