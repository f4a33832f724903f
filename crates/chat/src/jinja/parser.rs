//! Parses a template: Jinja2's grammar, as far as chat templates go.
//!
//! Left out are inheritance, imports, call blocks and recursive loops; a template that uses one is refused by
//! name. The tree's depth is bounded, so that no later walk over it can overflow the stack.

use super::ast::{Args, BinaryOp, CompareOp, Expr, ExprKind, FilterCall, For, Macro, Stmt, StmtKind, Target};
use super::lexer::{self, Kind, Piece, PieceKind, Token};
use super::{Error, MAX_DEPTH, filters, predicates};

/// A parsed template: its statements, and the macros that they declare.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) body: Vec<Stmt>,
    pub(super) macros: Vec<Macro>,
    /// Whether the variable `messages` is read anywhere.
    pub(super) reads_messages: bool,
}

pub(super) fn parse(source: &str) -> Result<Tree, Error> {
    let pieces = lexer::pieces(source)?;
    let reads_messages = pieces.iter().any(|piece| match &piece.kind {
        PieceKind::Print(tokens) | PieceKind::Block(tokens) => reads(tokens, "messages"),
        PieceKind::Text(_) => false,
    });
    let mut parser = Parser { pieces: pieces.into_iter(), macros: Vec::new(), line: 1, depth: 0, loops: 0 };
    let (body, end) = parser.body(&[])?;
    debug_assert!(end.is_none(), "nothing ends the whole template");
    Ok(Tree { body, macros: parser.macros, reads_messages })
}

/// Whether a tag reads the variable: its name, but for attributes, parameters' names and what is assigned to.
fn reads(tokens: &[Token], variable: &str) -> bool {
    let op = |at: Option<usize>, op| matches!(at.and_then(|at| tokens.get(at)), Some(Token { kind: Kind::Op(o), .. }) if *o == op);
    tokens.iter().enumerate().any(|(at, token)| {
        matches!(&token.kind, Kind::Name(name) if name == variable)
            && !op(at.checked_sub(1), ".")
            && !op(Some(at + 1), "=")
    })
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    macros: Vec<Macro>,
    /// The line of the present piece.
    line: usize,
    depth: usize,
    /// Loops around the present statement, within the present macro.
    loops: usize,
}

/// The tag that ended a body: its name and what follows in it.
type End = Option<(String, Tag)>;

impl Parser {
    /// Statements up to a tag of one of these names, or to the end of the template if there are none.
    fn body(&mut self, ends: &[&str]) -> Result<(Vec<Stmt>, End), Error> {
        self.depth += 1;
        let mut body = Vec::new();
        while let Some(Piece { line, kind }) = self.pieces.next() {
            self.line = line;
            let kind = match kind {
                PieceKind::Text(text) => StmtKind::Text(text),
                PieceKind::Print(tokens) => {
                    let mut tag = Tag::new(tokens, line, self.depth)?;
                    let expr = tag.tuple(true)?;
                    tag.finish()?;
                    StmtKind::Print(expr)
                }
                PieceKind::Block(tokens) => {
                    let mut tag = Tag::new(tokens, line, self.depth)?;
                    let name = tag.name()?;
                    if ends.contains(&name.as_str()) {
                        self.depth -= 1;
                        return Ok((body, Some((name, tag))));
                    }
                    self.statement(&name, tag)?
                }
            };
            body.push(Stmt { line, kind });
        }
        self.depth -= 1;
        match ends.last() {
            None => Ok((body, None)),
            Some(end) => Err(Error::syntax(self.line, format!("the template ends before `{end}`"))),
        }
    }

    fn statement(&mut self, name: &str, mut tag: Tag) -> Result<StmtKind, Error> {
        let line = tag.line();
        match name {
            "for" => self.for_loop(tag),
            "if" => self.if_chain(tag),
            "set" => self.set(tag),
            "macro" => self.macro_block(tag),
            "filter" => {
                let first = tag.filter_call()?;
                let mut filters = vec![first];
                filters.extend(tag.filters()?);
                tag.finish()?;
                Ok(StmtKind::FilterBlock { filters, body: self.block("endfilter")? })
            }
            "with" => {
                let mut assignments = Vec::new();
                while !tag.at_end() {
                    let target = tag.name()?;
                    tag.expect("=")?;
                    assignments.push((target, tag.expression()?));
                    if !tag.eat(",") {
                        break;
                    }
                }
                tag.finish()?;
                Ok(StmtKind::With { assignments, body: self.block("endwith")? })
            }
            // Marks the assistant's spans for training; the text is the same.
            "generation" => {
                tag.finish()?;
                Ok(StmtKind::Group(self.block("endgeneration")?))
            }
            "break" | "continue" => {
                tag.finish()?;
                if self.loops == 0 {
                    return Err(Error::syntax(line, format!("`{name}` outside a loop")));
                }
                Ok(if name == "break" { StmtKind::Break } else { StmtKind::Continue })
            }
            _ => Err(Error::syntax(line, format!("the statement `{name}` is not known here"))),
        }
    }

    /// A body up to one end tag with nothing in it.
    fn block(&mut self, end: &str) -> Result<Vec<Stmt>, Error> {
        let (body, ended) = self.body(&[end])?;
        if let Some((_, mut tag)) = ended {
            // `endmacro name` and `endblock name` may repeat the name.
            tag.eat_name();
            tag.finish()?;
        }
        Ok(body)
    }

    fn for_loop(&mut self, mut tag: Tag) -> Result<StmtKind, Error> {
        let line = tag.line();
        let target = tag.target()?;
        tag.expect_name("in")?;
        let iter = tag.tuple(false)?;
        let filter = if tag.eat_keyword("if") { Some(tag.expression()?) } else { None };
        if tag.eat_keyword("recursive") {
            return Err(Error::syntax(line, "recursive loops are not known here"));
        }
        tag.finish()?;
        self.loops += 1;
        let (body, end) = self.body(&["else", "endfor"])?;
        self.loops -= 1;
        let otherwise = match end {
            Some((name, tag)) if name == "else" => {
                tag.finish()?;
                self.block("endfor")?
            }
            Some((_, tag)) => {
                tag.finish()?;
                Vec::new()
            }
            None => Vec::new(),
        };
        Ok(StmtKind::For(Box::new(For { target, iter, filter, body, otherwise })))
    }

    fn if_chain(&mut self, mut tag: Tag) -> Result<StmtKind, Error> {
        let mut branches = Vec::new();
        let mut test = tag.tuple(true)?;
        tag.finish()?;
        loop {
            let (body, end) = self.body(&["elif", "else", "endif"])?;
            branches.push((test, body));
            match end {
                Some((name, mut tag)) if name == "elif" => {
                    test = tag.tuple(true)?;
                    tag.finish()?;
                }
                Some((name, tag)) if name == "else" => {
                    tag.finish()?;
                    return Ok(StmtKind::If { branches, otherwise: self.block("endif")? });
                }
                Some((_, tag)) => {
                    tag.finish()?;
                    return Ok(StmtKind::If { branches, otherwise: Vec::new() });
                }
                None => return Ok(StmtKind::If { branches, otherwise: Vec::new() }),
            }
        }
    }

    fn set(&mut self, mut tag: Tag) -> Result<StmtKind, Error> {
        let line = tag.line();
        let target = tag.target()?;
        if let (Target::Name(namespace), true) = (&target, tag.eat(".")) {
            let namespace = namespace.clone();
            let attribute = tag.name()?;
            tag.expect("=")?;
            let value = tag.tuple(true)?;
            tag.finish()?;
            return Ok(StmtKind::SetAttr { namespace, attribute, value });
        }
        if tag.eat("=") {
            let value = tag.tuple(true)?;
            tag.finish()?;
            return Ok(StmtKind::Set { target, value });
        }
        let filters = tag.filters()?;
        tag.finish()?;
        match target {
            Target::Name(name) => Ok(StmtKind::SetBlock { name, filters, body: self.block("endset")? }),
            Target::Tuple(_) => Err(Error::syntax(line, "a `set` block sets one name")),
        }
    }

    fn macro_block(&mut self, mut tag: Tag) -> Result<StmtKind, Error> {
        let name = tag.name()?;
        tag.expect("(")?;
        let mut params = Vec::new();
        while !tag.eat(")") {
            let param = tag.name()?;
            let default = if tag.eat("=") { Some(tag.expression()?) } else { None };
            params.push((param, default));
            if !tag.eat(",") {
                tag.expect(")")?;
                break;
            }
        }
        tag.finish()?;
        let loops = std::mem::take(&mut self.loops);
        let body = self.block("endmacro")?;
        self.loops = loops;
        self.macros.push(Macro { name, params, body });
        Ok(StmtKind::Macro(self.macros.len() - 1))
    }
}

/// The inside of one tag.
struct Tag {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    line: usize,
    depth: usize,
}

impl Tag {
    fn new(tokens: Vec<Token>, line: usize, depth: usize) -> Result<Tag, Error> {
        let tag = Tag { tokens: tokens.into_iter().peekable(), line, depth };
        if depth > MAX_DEPTH { Err(tag.too_deep()) } else { Ok(tag) }
    }

    fn too_deep(&self) -> Error {
        Error::limit(self.line, "the template is nested too deeply")
    }

    fn line(&self) -> usize {
        self.line
    }

    fn at_end(&mut self) -> bool {
        self.tokens.peek().is_none()
    }

    fn next(&mut self) -> Option<Kind> {
        let token = self.tokens.next()?;
        self.line = token.line;
        Some(token.kind)
    }

    fn peek_op(&mut self) -> Option<&'static str> {
        match self.tokens.peek() {
            Some(Token { kind: Kind::Op(op), .. }) => Some(op),
            _ => None,
        }
    }

    fn eat(&mut self, op: &str) -> bool {
        self.tokens.next_if(|token| matches!(&token.kind, Kind::Op(o) if *o == op)).is_some()
    }

    fn peek_keyword(&mut self, name: &str) -> bool {
        matches!(self.tokens.peek(), Some(Token { kind: Kind::Name(n), .. }) if n == name)
    }

    fn eat_keyword(&mut self, name: &str) -> bool {
        self.peek_keyword(name) && self.next().is_some()
    }

    fn eat_name(&mut self) -> Option<String> {
        match self.tokens.next_if(|token| matches!(token.kind, Kind::Name(_)))?.kind {
            Kind::Name(name) => Some(name),
            _ => None,
        }
    }

    fn name(&mut self) -> Result<String, Error> {
        match self.eat_name() {
            Some(name) => Ok(name),
            None => Err(self.unexpected("a name")),
        }
    }

    fn expect(&mut self, op: &str) -> Result<(), Error> {
        if self.eat(op) { Ok(()) } else { Err(self.unexpected(&format!("`{op}`"))) }
    }

    fn expect_name(&mut self, name: &str) -> Result<(), Error> {
        if self.eat_keyword(name) { Ok(()) } else { Err(self.unexpected(&format!("`{name}`"))) }
    }

    fn finish(mut self) -> Result<(), Error> {
        if self.at_end() { Ok(()) } else { Err(self.unexpected("the end of the tag")) }
    }

    fn unexpected(&mut self, wanted: &str) -> Error {
        let (line, found) = match self.tokens.peek() {
            None => (self.line, "the end of the tag".to_owned()),
            Some(token) => (
                token.line,
                match &token.kind {
                    Kind::Name(name) => format!("`{name}`"),
                    Kind::Str(_) => "a string".to_owned(),
                    Kind::Int(_) | Kind::Float(_) => "a number".to_owned(),
                    Kind::Op(op) => format!("`{op}`"),
                },
            ),
        };
        Error::syntax(line, format!("{wanted} was expected, not {found}"))
    }

    /// Names to assign to, separated by commas and perhaps in brackets.
    fn target(&mut self) -> Result<Target, Error> {
        let first = self.one_target()?;
        if self.peek_op() != Some(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.eat(",") {
            // `(a,)` is a tuple of one name.
            if self.peek_op() == Some(")") {
                break;
            }
            targets.push(self.one_target()?);
        }
        Ok(Target::Tuple(targets))
    }

    fn one_target(&mut self) -> Result<Target, Error> {
        if !self.eat("(") {
            return self.name().map(Target::Name);
        }
        let inside = self.deeper(Tag::target)?;
        self.expect(")")?;
        Ok(inside)
    }

    /// One level deeper for the time of `parse`.
    fn deeper<T>(&mut self, parse: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.too_deep());
        }
        let parsed = parse(self);
        self.depth -= 1;
        parsed
    }

    /// An expression, or several separated by commas as a list. Without `cond`, `if` does not belong to it.
    fn tuple(&mut self, cond: bool) -> Result<Expr, Error> {
        let line = self.line;
        let one = |tag: &mut Tag| if cond { tag.expression() } else { tag.or() };
        let first = one(self)?;
        if !self.eat(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while !self.at_end() && self.peek_op() != Some("=") && self.peek_op() != Some(")") {
            items.push(one(self)?);
            if !self.eat(",") {
                break;
            }
        }
        self.line = line;
        self.node(ExprKind::Tuple(items))
    }

    fn expression(&mut self) -> Result<Expr, Error> {
        self.deeper(|tag| {
            let mut expr = tag.or()?;
            while tag.eat_keyword("if") {
                let test = Box::new(tag.or()?);
                let otherwise =
                    if tag.eat_keyword("else") { Some(Box::new(tag.expression()?)) } else { None };
                let kind = ExprKind::Cond { test, then: Box::new(expr), otherwise };
                expr = tag.node(kind)?;
            }
            Ok(expr)
        })
    }

    fn node(&mut self, kind: ExprKind) -> Result<Expr, Error> {
        let expr = Expr::new(self.line, kind);
        if expr.depth > MAX_DEPTH { Err(self.too_deep()) } else { Ok(expr) }
    }

    fn or(&mut self) -> Result<Expr, Error> {
        let mut left = self.and()?;
        while self.eat_keyword("or") {
            let right = self.and()?;
            left = self.node(ExprKind::Or(Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn and(&mut self) -> Result<Expr, Error> {
        let mut left = self.not()?;
        while self.eat_keyword("and") {
            let right = self.not()?;
            left = self.node(ExprKind::And(Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn not(&mut self) -> Result<Expr, Error> {
        if self.eat_keyword("not") {
            let operand = self.deeper(Tag::not)?;
            return self.node(ExprKind::Not(Box::new(operand)));
        }
        self.compare()
    }

    fn compare(&mut self) -> Result<Expr, Error> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        loop {
            let op = match self.peek_op() {
                Some("==") => CompareOp::Eq,
                Some("!=") => CompareOp::Ne,
                Some("<") => CompareOp::Lt,
                Some("<=") => CompareOp::Le,
                Some(">") => CompareOp::Gt,
                Some(">=") => CompareOp::Ge,
                _ if self.peek_keyword("in") => CompareOp::In,
                _ if self.peek_keyword("not") => {
                    self.next();
                    if !self.peek_keyword("in") {
                        return Err(self.unexpected("`in`"));
                    }
                    CompareOp::NotIn
                }
                _ => break,
            };
            self.next();
            rest.push((op, self.sum()?));
        }
        if rest.is_empty() { Ok(first) } else { self.node(ExprKind::Compare(Box::new(first), rest)) }
    }

    fn sum(&mut self) -> Result<Expr, Error> {
        self.left_to_right(Tag::concat, &[("+", BinaryOp::Add), ("-", BinaryOp::Sub)])
    }

    fn concat(&mut self) -> Result<Expr, Error> {
        self.left_to_right(Tag::product, &[("~", BinaryOp::Concat)])
    }

    fn product(&mut self) -> Result<Expr, Error> {
        self.left_to_right(
            Tag::power,
            &[("*", BinaryOp::Mul), ("/", BinaryOp::Div), ("//", BinaryOp::FloorDiv), ("%", BinaryOp::Rem)],
        )
    }

    fn power(&mut self) -> Result<Expr, Error> {
        self.left_to_right(|tag| tag.unary(true), &[("**", BinaryOp::Pow)])
    }

    fn left_to_right(
        &mut self,
        operand: impl Fn(&mut Tag) -> Result<Expr, Error>,
        operators: &[(&str, BinaryOp)],
    ) -> Result<Expr, Error> {
        let mut left = operand(self)?;
        while let Some(&(_, op)) =
            self.peek_op().and_then(|found| operators.iter().find(|(spelling, _)| *spelling == found))
        {
            self.next();
            let right = operand(self)?;
            left = self.node(ExprKind::Binary(op, Box::new(left), Box::new(right)))?;
        }
        Ok(left)
    }

    fn unary(&mut self, with_filters: bool) -> Result<Expr, Error> {
        let mut expr = if self.eat("-") {
            let operand = self.deeper(|tag| tag.unary(false))?;
            self.node(ExprKind::Neg(Box::new(operand)))?
        } else if self.eat("+") {
            self.deeper(|tag| tag.unary(false))?
        } else {
            self.primary()?
        };
        expr = self.postfix(expr)?;
        if with_filters { self.filters_and_tests(expr) } else { Ok(expr) }
    }

    fn primary(&mut self) -> Result<Expr, Error> {
        let line = self.tokens.peek().map_or(self.line, |token| token.line);
        let missing = self.unexpected("an expression");
        let kind = match self.next() {
            Some(Kind::Name(name)) => match name.as_str() {
                "true" | "True" => ExprKind::Bool(true),
                "false" | "False" => ExprKind::Bool(false),
                "none" | "None" => ExprKind::None,
                "and" | "or" | "not" | "if" | "else" | "in" | "is" => return Err(missing),
                _ => ExprKind::Var(name),
            },
            Some(Kind::Str(mut text)) => {
                while let Some(Token { kind: Kind::Str(more), .. }) =
                    self.tokens.next_if(|token| matches!(token.kind, Kind::Str(_)))
                {
                    text.push_str(&more);
                }
                ExprKind::Str(text)
            }
            Some(Kind::Int(number)) => ExprKind::Int(number),
            Some(Kind::Float(number)) => ExprKind::Float(number),
            Some(Kind::Op("(")) => {
                if self.eat(")") {
                    ExprKind::Tuple(Vec::new())
                } else {
                    let inner = self.deeper(|tag| tag.tuple(true))?;
                    self.expect(")")?;
                    return Ok(inner);
                }
            }
            Some(Kind::Op("[")) => ExprKind::List(self.items("]", Tag::expression)?),
            Some(Kind::Op("{")) => ExprKind::Dict(self.items("}", |tag| {
                let key = tag.expression()?;
                tag.expect(":")?;
                Ok((key, tag.expression()?))
            })?),
            _ => return Err(missing),
        };
        self.line = line;
        self.node(kind)
    }

    fn items<T>(&mut self, end: &str, item: impl Fn(&mut Tag) -> Result<T, Error>) -> Result<Vec<T>, Error> {
        let mut items = Vec::new();
        while !self.eat(end) {
            items.push(item(self)?);
            if !self.eat(",") {
                self.expect(end)?;
                break;
            }
        }
        Ok(items)
    }

    /// Attributes, items, slices and calls.
    fn postfix(&mut self, mut expr: Expr) -> Result<Expr, Error> {
        loop {
            let kind = match self.peek_op() {
                Some(".") => {
                    self.next();
                    match self.next() {
                        Some(Kind::Name(name)) => ExprKind::Attr(Box::new(expr), name),
                        Some(Kind::Int(index)) => {
                            let index = self.node(ExprKind::Int(index))?;
                            ExprKind::Item(Box::new(expr), Box::new(index))
                        }
                        _ => return Err(Error::syntax(self.line, "a name was expected after `.`")),
                    }
                }
                Some("[") => {
                    self.next();
                    self.subscript(expr)?
                }
                Some("(") => {
                    self.next();
                    ExprKind::Call(Box::new(expr), self.args()?)
                }
                _ => return Ok(expr),
            };
            expr = self.node(kind)?;
        }
    }

    fn subscript(&mut self, expr: Expr) -> Result<ExprKind, Error> {
        let mut parts: [Option<Box<Expr>>; 3] = [None, None, None];
        let mut colons = 0;
        loop {
            if self.eat("]") {
                break;
            }
            if self.eat(":") {
                colons += 1;
                if colons > 2 {
                    return Err(Error::syntax(self.line, "a slice has at most three parts"));
                }
                continue;
            }
            if parts[colons].is_some() {
                return Err(self.unexpected("`]`"));
            }
            parts[colons] = Some(Box::new(self.expression()?));
        }
        match (colons, parts) {
            (0, [Some(index), _, _]) => Ok(ExprKind::Item(Box::new(expr), index)),
            (0, _) => Err(Error::syntax(self.line, "an index was expected")),
            (_, parts) => Ok(ExprKind::Slice(Box::new(expr), parts)),
        }
    }

    /// Arguments, after their opening bracket.
    fn args(&mut self) -> Result<Args, Error> {
        let mut args = Args::default();
        while !self.eat(")") {
            if self.eat("**") {
                args.more_named = Some(Box::new(self.expression()?));
            } else if self.eat("*") {
                args.more = Some(Box::new(self.expression()?));
            } else {
                let before = self.tokens.peek().cloned();
                let value = self.expression()?;
                match (before, &value.kind) {
                    (Some(Token { kind: Kind::Name(name), .. }), ExprKind::Var(_)) if self.eat("=") => {
                        args.named.push((name, self.expression()?));
                    }
                    _ if args.named.is_empty() && args.more_named.is_none() => args.positional.push(value),
                    _ => return Err(Error::syntax(value.line, "a positional argument follows a named one")),
                }
            }
            if !self.eat(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(args)
    }

    fn filters_and_tests(&mut self, mut expr: Expr) -> Result<Expr, Error> {
        loop {
            if self.eat("|") {
                let FilterCall { line, name, args } = self.filter_call()?;
                self.line = line;
                expr = self.node(ExprKind::Filter(Box::new(expr), name, args))?;
            } else if self.eat_keyword("is") {
                expr = self.test(expr)?;
            } else if self.eat("(") {
                let args = self.args()?;
                expr = self.node(ExprKind::Call(Box::new(expr), args))?;
            } else {
                return Ok(expr);
            }
        }
    }

    fn filters(&mut self) -> Result<Vec<FilterCall>, Error> {
        let mut filters = Vec::new();
        while self.eat("|") {
            filters.push(self.filter_call()?);
        }
        Ok(filters)
    }

    fn filter_call(&mut self) -> Result<FilterCall, Error> {
        let name = self.name()?;
        let line = self.line;
        if !filters::NAMES.contains(&name.as_str()) {
            return Err(Error::syntax(line, filters::unknown(&name)));
        }
        let args = if self.eat("(") { self.args()? } else { Args::default() };
        Ok(FilterCall { line, name, args })
    }

    fn test(&mut self, expr: Expr) -> Result<Expr, Error> {
        let negated = self.eat_keyword("not");
        let name = self.name()?;
        if !predicates::NAMES.contains(&name.as_str()) {
            return Err(Error::syntax(self.line, format!("the test `{name}` is not known here")));
        }
        let mut args = Args::default();
        let takes_operand = match self.tokens.peek().map(|token| &token.kind) {
            Some(Kind::Op("(" | "[" | "{") | Kind::Str(_) | Kind::Int(_) | Kind::Float(_)) => true,
            Some(Kind::Name(name)) => {
                !matches!(name.as_str(), "else" | "or" | "and" | "is" | "if" | "not" | "in")
            }
            _ => false,
        };
        if self.eat("(") {
            args = self.args()?;
        } else if takes_operand {
            let operand = self.primary()?;
            args.positional.push(self.postfix(operand)?);
        }
        let test = self.node(ExprKind::Test(Box::new(expr), name, args))?;
        if negated { self.node(ExprKind::Not(Box::new(test))) } else { Ok(test) }
    }
}
