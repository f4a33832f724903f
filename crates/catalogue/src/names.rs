//! Names of models and of repositories.

/// The names that an organisation had before, and has now, on Hugging Face (which leads from one to the other).
const RENAMED: [(&str, &str); 1] = [("THUDM", "zai-org")];

/// An id of a repository by its owner's present name.
pub fn renamed(id: &str) -> String {
    let Some((owner, name)) = id.split_once('/') else { return id.to_owned() };
    let now = RENAMED.iter().find(|(old, _)| old.eq_ignore_ascii_case(owner)).map_or(owner, |(_, now)| now);
    format!("{now}/{name}")
}

/// A name as it is compared: in lower case, blanks and underscores as hyphens.
pub(crate) fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace(['_', ' '], "-")
}

/// Of some names, the few that somebody may have meant who typed `name`, the most alike first.
pub(crate) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Vec<String> {
    const MOST: usize = 3;
    // Longer ones are no slips of the finger.
    let name: Vec<char> = plain(name).chars().take(64).collect();
    let allowed = (name.len() / 4).max(2);
    let mut alike: Vec<(usize, &str)> = names
        .map(|other| (distance(&name, &plain(other).chars().collect::<Vec<_>>()), other))
        .filter(|(distance, _)| *distance <= allowed)
        .collect();
    alike.sort();
    alike.dedup_by_key(|(_, name)| *name);
    alike.into_iter().take(MOST).map(|(_, name)| name.to_owned()).collect()
}

/// Letters to insert, leave out or replace to make one word the other (Levenshtein).
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = before + usize::from(x != y);
            before = row[j + 1];
            row[j + 1] = replaced.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_have_their_present_names() {
        assert_eq!(renamed("THUDM/glm-4-9b-chat"), "zai-org/glm-4-9b-chat");
        assert_eq!(renamed("zai-org/GLM-4.5"), "zai-org/GLM-4.5");
        assert_eq!(renamed("ZhipuAI/glm-4-9b"), "ZhipuAI/glm-4-9b");
        assert_eq!(renamed("glm-4-9b"), "glm-4-9b");
    }

    #[test]
    fn slips_of_the_finger() {
        let names = ["glm-4-9b-chat", "glm-4-9b", "glm-edge-4b-chat", "chatglm3-6b"];
        assert_eq!(nearest("glm-4-9b-caht", names.into_iter()), ["glm-4-9b-chat"]);
        assert_eq!(nearest("chatglm3", names.into_iter()), [""; 0]);
        assert_eq!(nearest("ChatGLM3_6", names.into_iter()), ["chatglm3-6b"]);
        assert_eq!(nearest(&"x".repeat(100_000), names.into_iter()), [""; 0]);
    }
}
