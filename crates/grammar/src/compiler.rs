//! Grammars to automata, which are remembered.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use llguidance::TokenParser;
use llguidance::api::{ParserLimits, TopLevelGrammar};

use crate::call_check::CallCheck;
use crate::error::first_line;
use crate::grammar::SOURCE_BYTES;
use crate::schema::{self, Unmasked};
use crate::turns::Turns;
use crate::{Beginning, CallTool, Calls, Grammar, GrammarError, Matcher, TokenTable, calls, gbnf};

/// Bytes that remembered grammars may hold.
const CACHE_BYTES: usize = 128 << 20;
/// Grammars that were refused and are remembered: at most a source each.
const REFUSED: usize = 16;
/// What a grammar holds beside its automaton's states, at least.
const OWN_BYTES: usize = 64 << 10;
/// Tokens that all answers begin with.
const FORCED: usize = 4096;
/// The compiler's stack: schemas and grammars may be deep, and their parts recursive.
const STACK: usize = 256 << 20;

/// What bounds a grammar: about 20 ms for its first states, 15 ms and 50,000 items of a parse for a mask, 100 MB of
/// states.
const LIMITS: ParserLimits = ParserLimits {
    max_items_in_row: 2000,
    initial_lexer_fuel: 1_000_000,
    step_lexer_fuel: 200_000,
    step_max_items: 50_000,
    max_lexer_states: 50_000,
    max_grammar_size: 200_000,
    precompute_large_lexemes: true,
    verbose_errors: false,
};

/// A grammar, ready for any number of answers.
pub struct Compiled {
    /// Copied for each answer; what one learns of the automaton all know.
    parser: Mutex<TokenParser>,
    source_bytes: usize,
    unmasked: Vec<Unmasked>,
    validator: Option<jsonschema::Validator>,
    /// Tools by their names.
    tools: HashMap<String, CallCheck>,
    pub(crate) is_spoiled: AtomicBool,
}

impl Compiled {
    /// What of a schema masks do not hold an answer to.
    pub fn unmasked(&self) -> &[Unmasked] {
        &self.unmasked
    }

    /// Checks a finished answer where masks did not hold it to all of its schema.
    ///
    /// # Errors
    /// What it breaks and where, on a line.
    pub fn check(&self, answer: &str) -> Result<(), String> {
        self.validator.as_ref().map_or(Ok(()), |validator| schema::validate(validator, answer))
    }

    /// Checks the arguments of a finished call. `None` where masks held it to all that its tool asks for and it is that, or
    /// where nobody can tell: there is no such tool, or its schema is none.
    pub fn check_call(&self, name: &str, arguments: &str) -> Option<Result<(), String>> {
        self.tools.get(name)?.check(arguments)
    }

    fn bytes(&self) -> usize {
        let parser = self.parser.lock().unwrap_or_else(PoisonError::into_inner);
        OWN_BYTES + 32 * self.source_bytes + parser.parser.lexer_stats().num_bytes
    }
}

/// Compiles grammars for one table and remembers the latest.
pub struct Compiler {
    table: Arc<TokenTable>,
    /// The latest last.
    known: Mutex<Vec<(Grammar, Arc<Compiled>)>>,
    /// The latest that no automaton can be made of: somebody may ask for one again and again. The latest last.
    refused: Mutex<Vec<(Grammar, GrammarError)>>,
    turns: Turns,
}

impl Compiler {
    /// A compiler that remembers nothing yet.
    pub fn new(table: TokenTable) -> Self {
        Compiler {
            table: Arc::new(table),
            known: Mutex::default(),
            refused: Mutex::default(),
            turns: Turns::new(),
        }
    }

    /// The table.
    pub fn table(&self) -> &TokenTable {
        &self.table
    }

    /// A grammar, compiled or remembered. A large one takes some 100 ms, and few are compiled at a time: not for a thread
    /// that must not wait.
    ///
    /// # Errors
    /// When it is not valid, cannot be satisfied, or is beyond the limits.
    pub fn compile(&self, grammar: &Grammar) -> Result<Arc<Compiled>, GrammarError> {
        if let Some(compiled) = self.recall(grammar) {
            return Ok(compiled);
        }
        grammar.check_size()?;
        let _turn = self.turns.take();
        // Somebody may have asked for the same meanwhile.
        if let Some(compiled) = self.recall(grammar) {
            return Ok(compiled);
        }
        let compiled = self.make_apart(grammar).inspect_err(|error| self.refuse(grammar, error))?;
        let compiled = Arc::new(compiled);
        self.remember(grammar.clone(), &compiled);
        Ok(compiled)
    }

    /// Makes a grammar where the stack is large.
    fn make_apart(&self, grammar: &Grammar) -> Result<Compiled, GrammarError> {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, error)) = refused.iter().find(|(other, _)| other == grammar) {
            return Err(error.clone());
        }
        drop(refused);
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("grammar".to_owned()).stack_size(STACK);
            let work = thread.spawn_scoped(scope, || self.make(grammar));
            let work = work.map_err(|error| GrammarError::Failed(first_line(&error)))?;
            work.join().map_err(|_| GrammarError::Failed("a fault in the program".to_owned()))?
        })
    }

    fn refuse(&self, grammar: &Grammar, error: &GrammarError) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is large is not worth its memory.
        let is_large = matches!(grammar, Grammar::Calls(calls) if calls.source_bytes() > SOURCE_BYTES);
        if is_large
            || matches!(error, GrammarError::Failed(_))
            || refused.iter().any(|(other, _)| other == grammar)
        {
            return;
        }
        if refused.len() == REFUSED {
            refused.remove(0);
        }
        refused.push((grammar.clone(), error.clone()));
    }

    /// The state of a new answer.
    pub fn matcher(&self, compiled: &Arc<Compiled>, beginning: Beginning) -> Matcher {
        let parser = compiled.parser.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let inner = llguidance::Matcher::new(Ok(parser));
        Matcher::new(inner, Arc::clone(&self.table), Arc::clone(compiled), beginning)
    }

    fn recall(&self, grammar: &Grammar) -> Option<Arc<Compiled>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(other, _)| other == grammar)?;
        let entry = known.remove(at);
        let compiled = Arc::clone(&entry.1);
        if compiled.is_spoiled.load(Ordering::Relaxed) {
            return None;
        }
        known.push(entry);
        Some(compiled)
    }

    fn remember(&self, grammar: Grammar, compiled: &Arc<Compiled>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(other, _)| *other != grammar);
        known.push((grammar, Arc::clone(compiled)));
        let mut held: usize = known.iter().map(|(_, compiled)| compiled.bytes()).sum();
        while held > CACHE_BYTES && known.len() > 1 {
            held -= known.remove(0).1.bytes();
        }
    }

    fn make(&self, grammar: &Grammar) -> Result<Compiled, GrammarError> {
        match grammar {
            Grammar::JsonObject => self.plain("JSON", schema::any_object(), 0),
            Grammar::JsonSchema { schema, strict } => self.schema(schema, *strict),
            Grammar::Regex(source) => {
                self.plain("regular expression", TopLevelGrammar::from_regex(source), source.len())
            }
            Grammar::Choice(texts) => {
                let source = choice(texts)?;
                self.plain("list of choices", TopLevelGrammar::from_regex(&source), source.len())
            }
            Grammar::Gbnf(source) => {
                let lark = gbnf::to_lark(source)
                    .map_err(|reason| GrammarError::Syntax { language: "GBNF grammar", reason })?;
                self.plain("GBNF grammar", TopLevelGrammar::from_lark(lark), source.len())
            }
            Grammar::Lark(source) => {
                self.plain("Lark grammar", TopLevelGrammar::from_lark(source.clone()), source.len())
            }
            Grammar::Calls(calls) => self.calls(calls),
        }
    }

    /// A grammar that is kept to by masks alone.
    fn plain(
        &self,
        language: &'static str,
        grammar: TopLevelGrammar,
        source_bytes: usize,
    ) -> Result<Compiled, GrammarError> {
        let parser = self.parser(grammar).map_err(|reason| GrammarError::Syntax { language, reason })?;
        Ok(Compiled {
            parser: Mutex::new(parser),
            source_bytes,
            unmasked: Vec::new(),
            validator: None,
            tools: HashMap::new(),
            is_spoiled: AtomicBool::new(false),
        })
    }

    /// Calls of tools. Where their schemas are too much, each is tried by itself, to be held to as far as possible, and at
    /// last each tool, of which calls are held to the name alone where no automaton can be made of more.
    fn calls(&self, calls: &Calls) -> Result<Compiled, GrammarError> {
        let tokenizer = self.table.tokenizer();
        let fits = |schema: &schema::Prepared| self.parser(schema.grammar(false)).is_ok();
        let mut free = calls.beyond_limits();
        let mut written = calls::write(calls, tokenizer, &|_| true, &free)?;
        let mut parser = self.parser(written.grammar);
        if parser.is_err() {
            written = calls::write(calls, tokenizer, &fits, &free)?;
            parser = self.parser(written.grammar);
        }
        if parser.is_err() {
            for tool in &calls.tools {
                let alone = Calls { tools: vec![tool.clone()], ..calls.clone() };
                let alone = calls::write(&alone, tokenizer, &fits, &free)?;
                if let Err(reason) = self.parser(alone.grammar) {
                    free.insert(tool.name.as_str(), reason);
                }
            }
            written = calls::write(calls, tokenizer, &fits, &free)?;
            parser = self.parser(written.grammar);
        }
        let parser = parser.map_err(|reason| GrammarError::Syntax { language: "list of tools", reason })?;
        let check = |tool: &CallTool| (tool.name.clone(), CallCheck::new(tool, &written.unmasked));
        Ok(Compiled {
            parser: Mutex::new(parser),
            source_bytes: calls.source_bytes(),
            tools: calls.tools.iter().map(check).collect(),
            unmasked: written.unmasked,
            validator: None,
            is_spoiled: AtomicBool::new(false),
        })
    }

    fn schema(&self, source: &str, strict: bool) -> Result<Compiled, GrammarError> {
        let schema = Grammar::parse_schema(source)?;
        let mut prepared = schema::prepare(&schema)?;
        let parser = match self.parser(prepared.grammar(false)) {
            Ok(parser) => parser,
            Err(reason) if reason.contains("nsatisfiable") => {
                return Err(GrammarError::Unsatisfiable(reason));
            }
            // Keywords that only together are more than llguidance does: kept to apart, and checked together.
            Err(reason) => {
                let mut parser = self.parser(prepared.grammar(true));
                if reason.contains("circular references") {
                    // Two that lead back to themselves, both to be kept to: their product has no end here.
                    prepared = schema::outline(&schema, reason);
                    parser = self.parser(prepared.grammar(false));
                } else {
                    prepared.unmasked.push(Unmasked { keyword: reason, at: String::new() });
                }
                parser.map_err(|reason| GrammarError::Schema { at: String::new(), reason })?
            }
        };
        if let Some(Unmasked { keyword, at }) = prepared.unmasked.first().filter(|_| strict) {
            return Err(GrammarError::Unmasked { keyword: keyword.clone(), at: at.clone() });
        }
        let validator =
            if prepared.unmasked.is_empty() { None } else { Some(schema::validator(&schema, false)?) };
        Ok(Compiled {
            parser: Mutex::new(parser),
            source_bytes: source.len(),
            unmasked: prepared.unmasked,
            validator,
            tools: HashMap::new(),
            is_spoiled: AtomicBool::new(false),
        })
    }

    fn parser(&self, grammar: TopLevelGrammar) -> Result<TokenParser, String> {
        let factory = &self.table.factory;
        let init = llguidance::api::GrammarInit::Serialized(grammar);
        let logger = llguidance::Logger::new(0, 0);
        let capabilities = llguidance::toktrie::InferenceCapabilities {
            ff_tokens: self.table.is_exact(),
            ..Default::default()
        };
        let parser = factory.create_parser_from_init_ext(init, logger, capabilities, LIMITS.clone());
        let mut parser = parser.map_err(|error| first_line(&error))?;
        parser.start_without_prompt();
        try_out(&parser)?;
        Ok(parser)
    }
}

/// Takes an answer's first step, so that a grammar beyond the limits is refused and not found out by a request.
fn try_out(parser: &TokenParser) -> Result<(), String> {
    let mut trial = llguidance::Matcher::new(Ok(parser.clone()));
    let forced = trial.compute_ff_tokens();
    if forced.len() > FORCED {
        return Err(format!(
            "every answer begins with the same {} tokens; at most {FORCED} may",
            forced.len()
        ));
    }
    let first = trial.compute_mask_or_eos().map_err(|error| match first_line(&error).as_str() {
        "NoExtensionBias" => "unsatisfiable: no text of it has an end".to_owned(),
        reason => reason.to_owned(),
    })?;
    let first = forced.first().copied().or(first.first_bit_set().map(|id| id as u32));
    let is_end =
        first.is_none_or(|id| trial.tok_env().is_ok_and(|env| env.tok_trie().eos_tokens().contains(&id)));
    match first.filter(|_| !is_end) {
        Some(id) => trial.consume_token(id).map_err(|error| first_line(&error)),
        None => Ok(()),
    }
}

/// A regular expression that matches one of some texts.
fn choice(texts: &[String]) -> Result<String, GrammarError> {
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        let reason = "it is to hold texts, none of them empty".to_owned();
        return Err(GrammarError::Syntax { language: "list of choices", reason });
    }
    let escaped = |text: &String| text.chars().map(gbnf::escaped).collect::<String>();
    Ok(texts.iter().map(escaped).collect::<Vec<_>>().join("|"))
}
