//! What a person types: a message, or a command of the conversation.

use glimmer::Sampling;

use crate::args::values::{above_zero, finite, from_zero, share, top_p};

/// A line as it is meant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    /// To be answered.
    Message(String),
    Clear,
    Stop,
    Help,
    /// Shows the standing instruction, or changes it; an empty one is none.
    System(Option<String>),
    Regenerate,
    Undo,
    /// Shows the settings, or changes one.
    Set(Option<(String, String)>),
    Tokens,
    Save(String),
    Load(String),
    /// Shows a picture with the next question.
    Image(String),
    /// It cannot be meant; why.
    Wrong(String),
}

/// What `/help` says.
pub(crate) const HELP: &str = "\
clear, /clear      forget the conversation
stop, exit, quit   end the program; so do /stop, /exit, /quit, /bye and Ctrl-D
/system [TEXT]     show the standing instruction, or change it (`-` removes it)
/regenerate        answer the last question again
/undo              take the last question and its answer back
/set [NAME VALUE]  show the sampling settings, or change one
/tokens            how many tokens the conversation has
/save FILE         store the conversation
/load FILE         go on with a stored one
/image FILE        show a picture with the next question
/help, /?          this list
Ctrl-C stops an answer, twice it ends the program. Alt-Enter begins a new line.
A message that begins with / is typed with two of them.
";

impl Command {
    /// Reads a line, or several that were pasted together: these are always a message.
    pub(crate) fn parse(line: &str) -> Self {
        let text = line.trim();
        match text {
            // The words of the models' first demos.
            "clear" => return Command::Clear,
            "stop" | "exit" | "quit" => return Command::Stop,
            _ => {}
        }
        let Some(command) = text.strip_prefix('/').filter(|_| !text.contains('\n')) else {
            return Command::Message(line.trim_end_matches(['\r', '\n']).to_owned());
        };
        if command.starts_with('/') {
            return Command::Message(command.to_owned());
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        let rest = rest.trim();
        let needs_file = |of: fn(String) -> Command| match rest {
            "" => Command::Wrong(format!("/{name} needs the name of a file")),
            file => of(file.to_owned()),
        };
        let alone = |command: Command| match rest {
            "" => command,
            // A question about the command, rather.
            _ => Command::Wrong(format!(
                "/{name} stands alone; a message that begins with / is typed with two of them"
            )),
        };
        match name {
            "clear" => alone(Command::Clear),
            "stop" | "exit" | "quit" | "bye" => alone(Command::Stop),
            "help" | "?" => alone(Command::Help),
            "regenerate" => alone(Command::Regenerate),
            "undo" => alone(Command::Undo),
            "tokens" => alone(Command::Tokens),
            "save" => needs_file(Command::Save),
            "load" => needs_file(Command::Load),
            "image" => needs_file(Command::Image),
            "system" => Command::System(match rest {
                "" => None,
                "-" => Some(String::new()),
                text => Some(text.to_owned()),
            }),
            "set" if rest.is_empty() => Command::Set(None),
            "set" => match rest.split_once(|c: char| c.is_whitespace() || c == '=') {
                Some((name, value)) => {
                    let value = value.trim_start_matches(|c: char| c.is_whitespace() || c == '=');
                    Command::Set(Some((name.to_owned(), value.to_owned())))
                }
                None => Command::Wrong(format!("/set {rest} needs a value")),
            },
            _ => Command::Wrong(format!("there is no /{name}; /help lists the commands")),
        }
    }
}

/// What `/set` changes.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) sampling: Sampling,
    /// Most tokens of an answer.
    pub(crate) max_tokens: Option<usize>,
    /// Tokens of it after which the reasoning is closed.
    pub(crate) thinking_budget: Option<usize>,
}

impl Settings {
    /// Changes one; an error says what is wrong with name or value.
    pub(crate) fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let s = &mut self.sampling;
        let whole = |value: &str| value.parse().map_err(|_| "a whole number from 0 up".to_owned());
        let or_none = |value: &str| if value == "none" { Ok(None) } else { whole(value).map(Some) };
        let result = match name.replace('-', "_").as_str() {
            "temperature" => from_zero(value).map(|x| s.temperature = x),
            "top_k" => whole(value).map(|n| s.top_k = n),
            "top_p" => top_p(value).map(|x| s.top_p = x),
            "min_p" => share(value).map(|x| s.min_p = x),
            "repetition_penalty" => above_zero(value).map(|x| s.repetition_penalty = x),
            "presence_penalty" => finite(value).map(|x| s.presence_penalty = x),
            "frequency_penalty" => finite(value).map(|x| s.frequency_penalty = x),
            "seed" => value.parse().map(|n| s.seed = n).map_err(|_| "a whole number from 0 up".to_owned()),
            "max_tokens" => or_none(value).map(|n| self.max_tokens = n),
            "thinking_budget" => or_none(value).map(|n| self.thinking_budget = n),
            _ => return Err(format!("there is no setting {name}; /set lists them")),
        };
        result.map_err(|wanted| format!("{name} is {wanted}, not {value}"))
    }

    /// How one of them stands now: its line of [`Settings::list`].
    pub(crate) fn shown(&self, name: &str) -> String {
        let (list, name) = (self.list(), name.replace('-', "_"));
        let line = list.lines().find(|line| line.split(' ').next() == Some(&name));
        line.unwrap_or_default().to_owned()
    }

    /// All of them, a line each.
    pub(crate) fn list(&self) -> String {
        let s = &self.sampling;
        let or_none = |n: Option<usize>| n.map_or("none".to_owned(), |n| n.to_string());
        let [max_tokens, thinking_budget] = [self.max_tokens, self.thinking_budget].map(or_none);
        format!(
            "temperature {}\ntop_k {}\ntop_p {}\nmin_p {}\nrepetition_penalty {}\npresence_penalty {}\n\
             frequency_penalty {}\nseed {}\nmax_tokens {max_tokens}\nthinking_budget {thinking_budget}\n",
            s.temperature,
            s.top_k,
            s.top_p,
            s.min_p,
            s.repetition_penalty,
            s.presence_penalty,
            s.frequency_penalty,
            s.seed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_meant() {
        let message = |text: &str| Command::Message(text.to_owned());
        for (line, meant) in [
            ("hello", message("hello")),
            (" clear ", Command::Clear),
            ("stop", Command::Stop),
            ("quit", Command::Stop),
            ("stop it", message("stop it")),
            ("/clear", Command::Clear),
            ("/bye", Command::Stop),
            ("/?", Command::Help),
            ("/system", Command::System(None)),
            ("/system  be brief ", Command::System(Some("be brief".to_owned()))),
            ("/system -", Command::System(Some(String::new()))),
            ("/set", Command::Set(None)),
            ("/set temperature 0.5", Command::Set(Some(("temperature".to_owned(), "0.5".to_owned())))),
            ("/set top_p = 0.5", Command::Set(Some(("top_p".to_owned(), "0.5".to_owned())))),
            ("/save a b.json", Command::Save("a b.json".to_owned())),
            ("/image a b.png ", Command::Image("a b.png".to_owned())),
            ("//etc is what?", message("/etc is what?")),
            ("/etc\nis what?", message("/etc\nis what?")),
            ("  fn main() {\n  }\n", message("  fn main() {\n  }")),
        ] {
            assert_eq!(Command::parse(line), meant, "{line:?}");
        }
        for wrong in
            ["/save", "/load ", "/image", "/set temperature", "/etc is what?", "/", "/undo does what?"]
        {
            assert!(matches!(Command::parse(wrong), Command::Wrong(_)), "{wrong:?}");
        }
    }

    #[test]
    fn the_list_of_commands_is_true_and_fits_a_terminal() {
        assert!(HELP.lines().all(|line| line.chars().count() <= 80), "a line breaks at 80 columns");
        let words = HELP.split(|c: char| c.is_whitespace() || ",;".contains(c));
        for word in words.filter(|word| word.len() > 1 && word.starts_with('/')) {
            let meant = [word.to_owned(), format!("{word} x y")].map(|line| Command::parse(&line));
            assert!(meant.iter().any(|command| !matches!(command, Command::Wrong(_))), "{word}");
        }
    }

    #[test]
    fn settings_take_what_the_flags_take() {
        let mut settings =
            Settings { sampling: Sampling::default(), max_tokens: None, thinking_budget: None };
        for (name, value) in [("temperature", "0.7"), ("top-k", "5"), ("seed", "9"), ("max_tokens", "20")] {
            settings.set(name, value).unwrap();
        }
        let s = &settings.sampling;
        assert_eq!((s.temperature, s.top_k, s.seed, settings.max_tokens), (0.7, 5, 9, Some(20)));
        assert_eq!(settings.shown("top-k"), "top_k 5");
        settings.set("max_tokens", "none").unwrap();
        assert_eq!(settings.shown("max_tokens"), "max_tokens none");
        assert_eq!(settings.max_tokens, None);
        for (name, value) in
            [("temperature", "-1"), ("top_p", "0"), ("top_k", "x"), ("speed", "9"), ("seed", "")]
        {
            assert!(settings.set(name, value).unwrap_err().contains(name), "{name}");
        }
        for line in settings.list().lines() {
            let (name, value) = line.split_once(' ').unwrap();
            settings.set(name, value).unwrap();
        }
    }
}
