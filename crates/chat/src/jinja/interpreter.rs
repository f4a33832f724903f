//! Walks a template's tree and writes its text, counting work, memory and depth on the way.

use super::arguments::Arguments;
use super::ast::{Args, Expr, ExprKind, FilterCall, For, Stmt, StmtKind, Target};
use super::parser::Tree;
use super::value::{Cycler, Function, Joiner, Loop, Names, Text, TextBuilder, VALUE_SIZE, Value, write_str};
use super::{Error, ErrorKind, clock};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// Steps that a run may take, statements and expressions: so many, and more for every byte of the conversation. A
/// long conversation takes some hundred thousand.
const STEPS: u64 = 4_000_000;
const STEPS_PER_BYTE: u64 = 20;
/// Bytes of text and values that a run may make or look through, all told; what is alive at one time is less.
const WORK: u64 = 64 << 20;
const WORK_PER_BYTE: u64 = 64;
/// Calls and blocks within one another at run time.
const MAX_RUN_DEPTH: usize = 400;
/// Items of `range`.
const MAX_RANGE: i128 = 100_000;

/// A dictionary's methods.
const DICT_METHODS: [&str; 6] = ["copy", "fromkeys", "get", "items", "keys", "values"];
const DICT_CHANGES: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];

/// What an expression or statement goes on with.
enum Flow {
    Next,
    Break,
    Continue,
}

/// Names set in one scope.
type Scope<'t> = HashMap<&'t str, Value>;

pub(super) struct Interpreter<'t> {
    tree: &'t Tree,
    /// The template's own names; a macro sees these and its own scopes.
    globals: Scope<'t>,
    scopes: Vec<Scope<'t>>,
    /// The first scope of the macro that runs.
    frame: usize,
    out: TextBuilder,
    loops: usize,
    depth: usize,
    /// Steps and work that are left.
    steps: u64,
    work: u64,
    /// The variables that nothing has looked at yet, and those that were set to something else before anything did.
    unread: Vec<&'t str>,
    lost: Vec<&'t str>,
}

impl<'t> Interpreter<'t> {
    pub(super) fn new(tree: &'t Tree, variables: Vec<(&'t str, Value)>) -> Interpreter<'t> {
        let mut globals = Scope::from([
            ("range", Value::Function(Function::Range)),
            ("namespace", Value::Function(Function::Namespace)),
            ("dict", Value::Function(Function::Dict)),
            ("cycler", Value::Function(Function::Cycler)),
            ("joiner", Value::Function(Function::Joiner)),
            ("raise_exception", Value::Function(Function::RaiseException)),
            ("strftime_now", Value::Function(Function::StrftimeNow)),
        ]);
        let input: u64 = variables.iter().map(|(_, value)| value.weight() as u64).sum();
        let unread = variables.iter().map(|(name, _)| *name).collect();
        globals.extend(variables);
        Interpreter {
            tree,
            globals,
            scopes: Vec::new(),
            frame: 0,
            out: TextBuilder::default(),
            loops: 0,
            depth: 0,
            steps: STEPS + STEPS_PER_BYTE * input,
            work: WORK + WORK_PER_BYTE * input,
            unread,
            lost: Vec::new(),
        }
    }

    /// The template's text, and the names of the variables that it never looked at.
    pub(super) fn run(mut self) -> Result<(Text, Vec<&'t str>), Error> {
        let tree = self.tree;
        self.body(&tree.body)?;
        self.unread.append(&mut self.lost);
        Ok((self.out.finish(), self.unread))
    }

    fn step(&mut self, line: usize) -> Result<(), Error> {
        self.steps = self.steps.saturating_sub(1);
        if self.steps == 0 { Err(Error::limit(line, "the template takes too many steps")) } else { Ok(()) }
    }

    /// Accounts for this many bytes to be made or looked through.
    pub(super) fn charge(&mut self, amount: usize) -> Result<(), Error> {
        self.work = self.work.saturating_sub(amount as u64);
        if self.work == 0 { Err(Error::limit(0, "the template makes too much text")) } else { Ok(()) }
    }

    /// Accounts for a key to be compared with so many.
    pub(super) fn charge_search(&mut self, entries: usize, key: &Value) -> Result<(), Error> {
        let each = if let Value::List(list) = key { list.items.len() } else { 1 };
        self.charge(entries.saturating_mul(each).saturating_add(each))
    }

    /// One level deeper for the time of `run`. An error ends the whole run, so nothing is put back for one.
    pub(super) fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.depth += 1;
        if self.depth > MAX_RUN_DEPTH {
            return Err(Error::limit(0, "calls and blocks are nested too deeply"));
        }
        let result = run(self)?;
        self.depth -= 1;
        Ok(result)
    }

    fn set(&mut self, name: &'t str, value: Value) {
        if self.scopes.is_empty() {
            self.lost.extend(self.unread.extract_if(.., |unread| *unread == name));
        }
        self.scopes.last_mut().unwrap_or(&mut self.globals).insert(name, value);
    }

    fn lookup(&mut self, name: &str) -> Value {
        let own = &self.scopes[self.frame..];
        // Eight scopes are looked through in about the time of a step.
        self.steps = self.steps.saturating_sub(own.len() as u64 / 8);
        let found = own.iter().rev().find_map(|scope| scope.get(name));
        let found = found.or_else(|| {
            self.unread.retain(|unread| *unread != name);
            self.globals.get(name)
        });
        found.cloned().unwrap_or_else(|| Value::undefined(name))
    }

    fn body(&mut self, body: &'t [Stmt]) -> Result<Flow, Error> {
        self.deeper(|this| {
            for stmt in body {
                match this.statement(stmt).map_err(|e| e.at(stmt.line))? {
                    Flow::Next => {}
                    other => return Ok(other),
                }
            }
            Ok(Flow::Next)
        })
    }

    fn scoped(&mut self, scope: Scope<'t>, body: &'t [Stmt]) -> Result<Flow, Error> {
        self.scopes.push(scope);
        let flow = self.body(body)?;
        self.scopes.pop();
        Ok(flow)
    }

    /// What a body writes, as a value.
    fn captured(&mut self, scope: Scope<'t>, body: &'t [Stmt]) -> Result<Text, Error> {
        let outer = std::mem::take(&mut self.out);
        self.scoped(scope, body)?;
        let inner = std::mem::replace(&mut self.out, outer);
        Ok(inner.finish())
    }

    fn statement(&mut self, stmt: &'t Stmt) -> Result<Flow, Error> {
        self.step(stmt.line)?;
        match &stmt.kind {
            StmtKind::Text(text) => {
                self.charge(text.len())?;
                self.out.push_str(text, false);
            }
            StmtKind::Print(expr) => {
                let value = self.eval(expr)?;
                self.print(&value)?;
            }
            StmtKind::For(each) => return self.for_loop(each),
            StmtKind::If { branches, otherwise } => {
                for (test, body) in branches {
                    if self.eval(test)?.truth() {
                        return self.body(body);
                    }
                }
                return self.body(otherwise);
            }
            StmtKind::Set { target, value } => {
                let value = self.eval(value)?;
                for (name, value) in self.unpack(target, value)? {
                    self.set(name, value);
                }
            }
            StmtKind::SetAttr { namespace, attribute, value } => {
                let value = self.eval(value)?;
                let Value::Namespace(names) = self.lookup(namespace) else {
                    return Err(Error::value(format!("`{namespace}` is no namespace")));
                };
                // A list tells whether the value may be inside another.
                Value::list(vec![value.clone()])?;
                let mut names = names.borrow_mut();
                self.charge(names.len())?;
                match names.iter_mut().find(|(name, _)| **name == **attribute) {
                    Some((_, slot)) => *slot = value,
                    None => names.push((attribute.as_str().into(), value)),
                }
            }
            StmtKind::SetBlock { name, filters, body } => {
                let text = self.captured(Scope::new(), body)?;
                let value = self.filtered(Value::Str(text), filters)?;
                self.set(name, value);
            }
            StmtKind::FilterBlock { filters, body } => {
                let text = self.captured(Scope::new(), body)?;
                let value = self.filtered(Value::Str(text), filters)?;
                self.print(&value)?;
            }
            StmtKind::With { assignments, body } => {
                let mut scope = Scope::new();
                for (name, value) in assignments {
                    scope.insert(name, self.eval(value)?);
                }
                return self.scoped(scope, body);
            }
            StmtKind::Macro(number) => {
                let tree = self.tree;
                self.set(&tree.macros[*number].name, Value::Macro(*number));
            }
            StmtKind::Break => return Ok(Flow::Break),
            StmtKind::Continue => return Ok(Flow::Continue),
            StmtKind::Group(body) => return self.body(body),
        }
        Ok(Flow::Next)
    }

    fn print(&mut self, value: &Value) -> Result<(), Error> {
        let mut out = std::mem::take(&mut self.out);
        let written = write_str(&mut out, value, &mut |amount| self.charge(amount));
        self.out = out;
        written
    }

    /// `str(value)`.
    pub(super) fn text_of(&mut self, value: &Value) -> Result<Text, Error> {
        if let Value::Str(text) = value {
            return Ok(text.clone());
        }
        let mut out = TextBuilder::default();
        write_str(&mut out, value, &mut |amount| self.charge(amount))?;
        Ok(out.finish())
    }

    /// The names of a target with what they are set to.
    fn unpack(&mut self, target: &'t Target, value: Value) -> Result<Scope<'t>, Error> {
        let mut scope = Scope::new();
        self.unpack_into(&mut scope, target, value)?;
        Ok(scope)
    }

    fn unpack_into(&mut self, scope: &mut Scope<'t>, target: &'t Target, value: Value) -> Result<(), Error> {
        let targets = match target {
            Target::Name(name) => {
                scope.insert(name, value);
                return Ok(());
            }
            Target::Tuple(targets) => targets,
        };
        let items = self.items(&value)?;
        if items.len() != targets.len() {
            let what = format!("{} values for {} names", items.len(), targets.len());
            return Err(Error::value(what));
        }
        targets.iter().zip(items).try_for_each(|(target, item)| self.unpack_into(scope, target, item))
    }

    fn for_loop(&mut self, each: &'t For) -> Result<Flow, Error> {
        let iter = self.eval(&each.iter)?;
        let mut items = self.items(&iter)?;
        if let Some(filter) = &each.filter {
            let mut kept = Vec::new();
            for item in items {
                let scope = self.unpack(&each.target, item.clone())?;
                self.scopes.push(scope);
                let keep = self.eval(filter)?.truth();
                self.scopes.pop();
                if keep {
                    kept.push(item);
                }
            }
            items = kept;
        }
        if items.is_empty() {
            return self.scoped(Scope::new(), &each.otherwise);
        }
        let items: Rc<[Value]> = items.into();
        let changed = Rc::default();
        self.loops += 1;
        for (index, item) in items.iter().enumerate() {
            let state =
                Loop { index, items: Rc::clone(&items), depth: self.loops, changed: Rc::clone(&changed) };
            let mut scope = self.unpack(&each.target, item.clone())?;
            scope.insert("loop", Value::Loop(Rc::new(state)));
            if let Flow::Break = self.scoped(scope, &each.body)? {
                break;
            }
        }
        self.loops -= 1;
        Ok(Flow::Next)
    }

    /// The items that a loop over the value visits.
    pub(super) fn items(&mut self, value: &Value) -> Result<Vec<Value>, Error> {
        match value {
            Value::Undefined(_) => Ok(Vec::new()),
            Value::List(list) => {
                self.charge(list.items.len() * VALUE_SIZE)?;
                Ok(list.items.clone())
            }
            Value::Dict(dict) => {
                self.charge(dict.entries.len() * VALUE_SIZE)?;
                Ok(dict.entries.iter().map(|(key, _)| key.clone()).collect())
            }
            Value::Str(text) => {
                self.charge(text.size() * VALUE_SIZE)?;
                let ends = text.as_str().char_indices().map(|(at, c)| (at, at + c.len_utf8()));
                Ok(ends.map(|(start, end)| Value::Str(text.slice(start, end))).collect())
            }
            other => Err(Error::value(format!("a value of kind {} has no items", other.kind()))),
        }
    }

    fn filtered(&mut self, mut value: Value, filters: &'t [FilterCall]) -> Result<Value, Error> {
        for FilterCall { line, name, args } in filters {
            let args = self.arguments(args)?;
            value = self.filter(name, value, args).map_err(|e| e.at(*line))?;
        }
        Ok(value)
    }

    fn arguments(&mut self, args: &'t Args) -> Result<Arguments, Error> {
        let mut arguments = Arguments::default();
        for value in &args.positional {
            arguments.positional.push(self.eval(value)?);
        }
        for (name, value) in &args.named {
            arguments.named.push((name.clone(), self.eval(value)?));
        }
        if let Some(more) = &args.more {
            let more = self.eval(more)?;
            arguments.positional.extend(self.items(&more)?);
        }
        if let Some(more) = &args.more_named {
            let Value::Dict(more) = self.eval(more)? else {
                return Err(Error::value("`**` takes a dictionary"));
            };
            self.charge(more.entries.len() * VALUE_SIZE)?;
            for (name, value) in &more.entries {
                let name = super::arguments::text("a parameter's name", Some(name.clone()))?;
                arguments.named.push((name.as_str().to_owned(), value.clone()));
            }
        }
        Ok(arguments)
    }

    fn eval(&mut self, expr: &'t Expr) -> Result<Value, Error> {
        self.step(expr.line)?;
        self.deeper(|this| this.evaluate(expr)).map_err(|e| e.at(expr.line))
    }

    fn evaluate(&mut self, expr: &'t Expr) -> Result<Value, Error> {
        Ok(match &expr.kind {
            ExprKind::None => Value::None,
            ExprKind::Bool(b) => Value::Bool(*b),
            ExprKind::Int(int) => Value::Int(*int),
            ExprKind::Float(float) => Value::Float(*float),
            ExprKind::Str(text) => {
                self.charge(text.len())?;
                Value::template(text)
            }
            ExprKind::Var(name) => self.lookup(name),
            ExprKind::List(items) => {
                let items = self.eval_all(items)?;
                Value::list(items)?
            }
            ExprKind::Tuple(items) => {
                let items = self.eval_all(items)?;
                Value::tuple(items)?
            }
            ExprKind::Dict(items) => self.dict_literal(items)?,
            ExprKind::Attr(object, name) => {
                let object = self.eval(object)?;
                match &object {
                    // Python finds a dictionary's methods before its keys, and the sandbox hides those that change it.
                    Value::Dict(_) if DICT_METHODS.contains(&name.as_str()) => {
                        Value::Function(Function::Method)
                    }
                    Value::Dict(_) if DICT_CHANGES.contains(&name.as_str()) => Value::undefined(name),
                    _ => self.attribute(&object, name)?,
                }
            }
            ExprKind::Item(object, index) => {
                let object = self.eval(object)?;
                let index = self.eval(index)?;
                self.item(&object, &index)?
            }
            ExprKind::Slice(object, parts) => {
                let object = self.eval(object)?;
                let mut bounds = [None; 3];
                for (bound, part) in bounds.iter_mut().zip(parts) {
                    if let Some(part) = part {
                        let value = self.eval(part)?;
                        *bound = super::arguments::optional_int("a slice", Some(value))?;
                    }
                }
                self.slice(&object, bounds)?
            }
            ExprKind::Call(callee, args) => self.call(callee, args)?,
            ExprKind::Filter(operand, name, args) => {
                let operand = self.eval(operand)?;
                let args = self.arguments(args)?;
                self.filter(name, operand, args)?
            }
            ExprKind::Test(operand, name, args) => {
                let operand = self.eval(operand)?;
                let args = self.arguments(args)?;
                Value::Bool(self.test(name, &operand, args)?)
            }
            ExprKind::Not(operand) => Value::Bool(!self.eval(operand)?.truth()),
            ExprKind::Neg(operand) => {
                let operand = self.eval(operand)?;
                self.negate(&operand)?
            }
            ExprKind::Binary(op, left, right) => {
                let left = self.eval(left)?;
                let right = self.eval(right)?;
                self.binary(*op, &left, &right)?
            }
            ExprKind::And(left, right) => {
                let left = self.eval(left)?;
                if left.truth() { self.eval(right)? } else { left }
            }
            ExprKind::Or(left, right) => {
                let left = self.eval(left)?;
                if left.truth() { left } else { self.eval(right)? }
            }
            ExprKind::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (op, right) in rest {
                    let right = self.eval(right)?;
                    if !self.compare(*op, &left, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Value::Bool(true)
            }
            ExprKind::Cond { test, then, otherwise } => {
                if self.eval(test)?.truth() {
                    self.eval(then)?
                } else if let Some(otherwise) = otherwise {
                    self.eval(otherwise)?
                } else {
                    Value::undefined("the missing else")
                }
            }
        })
    }

    fn eval_all(&mut self, items: &'t [Expr]) -> Result<Vec<Value>, Error> {
        self.charge(items.len() * VALUE_SIZE)?;
        items.iter().map(|item| self.eval(item)).collect()
    }

    fn dict_literal(&mut self, items: &'t [(Expr, Expr)]) -> Result<Value, Error> {
        self.charge(items.len() * VALUE_SIZE)?;
        let mut entries: Vec<(Value, Value)> = Vec::new();
        for (key, value) in items {
            let key = self.eval(key)?;
            let value = self.eval(value)?;
            self.insert(&mut entries, key, value)?;
        }
        Value::dict(entries)
    }

    /// Puts a value in its key's place.
    fn insert(&mut self, entries: &mut Vec<(Value, Value)>, key: Value, value: Value) -> Result<(), Error> {
        if !key.is_key() {
            return Err(Error::value(format!("a value of kind {} is no dictionary's key", key.kind())));
        }
        self.charge_search(entries.len(), &key)?;
        match entries.iter_mut().find(|(k, _)| k.same_key(&key)) {
            Some((_, slot)) => *slot = value,
            None => entries.push((key, value)),
        }
        Ok(())
    }

    /// `object.name`.
    pub(super) fn attribute(&mut self, object: &Value, name: &str) -> Result<Value, Error> {
        match object {
            Value::Dict(dict) => {
                self.charge(dict.entries.len())?;
                Ok(dict.get(name).cloned().unwrap_or_else(|| Value::undefined(name)))
            }
            Value::Namespace(names) => {
                let names = names.borrow();
                self.charge(names.len())?;
                let found = names.iter().find(|(n, _)| **n == *name);
                Ok(found.map_or_else(|| Value::undefined(name), |(_, value)| value.clone()))
            }
            Value::Loop(state) => Ok(loop_attribute(state, name)),
            Value::Cycler(cycler) if name == "current" => Ok(cycler.items[cycler.at.get()].clone()),
            Value::Undefined(what) => {
                Err(Error::value(format!("`{what}` is undefined, so it has no `{name}`")))
            }
            _ => Ok(Value::undefined(name)),
        }
    }

    /// `object[index]`.
    pub(super) fn item(&mut self, object: &Value, index: &Value) -> Result<Value, Error> {
        match (object, index) {
            (Value::Undefined(what), _) => {
                Err(Error::value(format!("`{what}` is undefined, so it has no items")))
            }
            (_, Value::Bool(index)) if !matches!(object, Value::Dict(_)) => {
                self.item(object, &Value::Int(i128::from(*index)))
            }
            (Value::List(list), Value::Int(index)) => {
                let at = position(*index, list.items.len());
                Ok(at.map_or_else(|| Value::undefined("the item"), |at| list.items[at].clone()))
            }
            (Value::Dict(dict), key) if !matches!(key, Value::Str(_)) => {
                self.charge_search(dict.entries.len(), key)?;
                Ok(dict.at(key).cloned().unwrap_or_else(|| Value::undefined("the item")))
            }
            (Value::Str(text), Value::Int(index)) => {
                self.charge(text.size())?;
                let at = position(*index, text.as_str().chars().count());
                let found = at.and_then(|at| text.as_str().char_indices().nth(at));
                Ok(match found {
                    Some((start, c)) => Value::Str(text.slice(start, start + c.len_utf8())),
                    None => Value::undefined("the character"),
                })
            }
            (_, Value::Str(name)) => self.attribute(object, name.as_str()),
            _ => Ok(Value::undefined("the item")),
        }
    }

    pub(super) fn slice(
        &mut self,
        object: &Value,
        [start, stop, step]: [Option<i128>; 3],
    ) -> Result<Value, Error> {
        let step = step.unwrap_or(1);
        if step == 0 {
            return Err(Error::value("a slice's step is not zero"));
        }
        match object {
            Value::Str(text) if step == 1 => {
                self.charge(text.size())?;
                let mut ends: Vec<usize> = text.as_str().char_indices().map(|(at, _)| at).collect();
                ends.push(text.len());
                let (from, to) = bounds(start, stop, ends.len() - 1);
                Ok(Value::Str(text.slice(ends[from], ends[to.max(from)])))
            }
            Value::Str(_) => {
                let characters = self.items(object)?;
                let mut out = TextBuilder::default();
                for at in stepped(start, stop, step, characters.len()) {
                    if let Value::Str(character) = &characters[at] {
                        out.push(character);
                    }
                }
                Ok(Value::Str(out.finish()))
            }
            Value::List(list) => {
                self.charge(list.items.len() * VALUE_SIZE)?;
                let indices = stepped(start, stop, step, list.items.len());
                let items = indices.into_iter().map(|at| list.items[at].clone()).collect();
                if list.tuple { Value::tuple(items) } else { Value::list(items) }
            }
            Value::Undefined(what) => Err(Error::value(format!("`{what}` is undefined, so it has no items"))),
            other => Err(Error::value(format!("a value of kind {} cannot be sliced", other.kind()))),
        }
    }

    fn call(&mut self, callee: &'t Expr, args: &'t Args) -> Result<Value, Error> {
        if let ExprKind::Attr(object, name) = &callee.kind {
            let object = self.eval(object)?;
            let stored = match &object {
                Value::Namespace(_) => self.attribute(&object, name)?,
                _ => Value::undefined(name),
            };
            let arguments = self.arguments(args)?;
            return match stored {
                Value::Undefined(_) => self.method(&object, name, arguments),
                function => self.call_value(&function, arguments),
            };
        }
        let function = self.eval(callee)?;
        let arguments = self.arguments(args)?;
        self.call_value(&function, arguments)
    }

    fn call_value(&mut self, function: &Value, arguments: Arguments) -> Result<Value, Error> {
        match function {
            Value::Macro(number) => self.call_macro(*number, arguments),
            Value::Function(function) => self.call_function(*function, arguments),
            Value::Joiner(joiner) => {
                arguments.none("a joiner")?;
                let separator = joiner.used.replace(true).then(|| joiner.separator.clone());
                Ok(Value::Str(separator.unwrap_or_else(|| Text::template(""))))
            }
            Value::Undefined(what) => {
                Err(Error::value(format!("`{what}` is undefined, so it cannot be called")))
            }
            other => Err(Error::value(format!("a value of kind {} cannot be called", other.kind()))),
        }
    }

    fn call_macro(&mut self, number: usize, arguments: Arguments) -> Result<Value, Error> {
        let tree = self.tree;
        let called = &tree.macros[number];
        if arguments.positional.len() > called.params.len() {
            return Err(Error::value(format!("the macro `{}` was given too many arguments", called.name)));
        }
        if let Some((name, _)) =
            arguments.named.iter().find(|(n, _)| !called.params.iter().any(|(p, _)| p == n))
        {
            return Err(Error::value(format!("the macro `{}` has no parameter `{name}`", called.name)));
        }
        let mut given = arguments.positional.into_iter();
        // What Python calls `*args` and `**kwargs`: always empty here, as more arguments are refused.
        let nothing = [("varargs", Value::tuple(Vec::new())?), ("kwargs", Value::dict(Vec::new())?)];
        let mut scope = Scope::from(nothing);
        let outer = std::mem::replace(&mut self.frame, self.scopes.len());
        for (param, default) in &called.params {
            let named = arguments.named.iter().find(|(name, _)| name == param);
            let value = match (given.next(), named, default) {
                (Some(value), _, _) => value,
                (None, Some((_, value)), _) => value.clone(),
                (None, None, Some(default)) => self.eval(default)?,
                (None, None, None) => Value::undefined(param),
            };
            scope.insert(param, value);
        }
        let text = self.captured(scope, &called.body)?;
        self.frame = outer;
        Ok(Value::Str(text))
    }

    fn call_function(&mut self, function: Function, arguments: Arguments) -> Result<Value, Error> {
        match function {
            Function::Range => {
                let [a, b, step] = arguments.bind("range", ["start", "stop", "step"])?;
                let int = |value| super::arguments::optional_int("range", value);
                let (a, b, step) = (int(a)?.unwrap_or(0), int(b)?, int(step)?.unwrap_or(1));
                let (start, stop) = b.map_or((0, a), |b| (a, b));
                self.range(start, stop, step)
            }
            Function::Namespace => {
                let mut names = Names::new();
                for value in arguments.positional {
                    let Value::Dict(dict) = value else {
                        return Err(Error::value("namespace takes a dictionary or named values"));
                    };
                    for (key, value) in &dict.entries {
                        let key = super::arguments::text("a namespace's name", Some(key.clone()))?;
                        names.push((key.as_str().into(), value.clone()));
                    }
                }
                names.extend(arguments.named.into_iter().map(|(name, value)| (name.into(), value)));
                Value::list(names.iter().map(|(_, value)| value.clone()).collect())?;
                Ok(Value::Namespace(Rc::new(RefCell::new(names))))
            }
            Function::Dict => {
                if arguments.positional.len() > 1 {
                    return Err(Error::value("dict takes one dictionary or list of pairs, and named values"));
                }
                let mut entries = Vec::new();
                for given in arguments.positional {
                    let given = match &given {
                        Value::Dict(_) => self.method(&given, "items", Arguments::default())?,
                        _ => given,
                    };
                    for pair in self.items(&given)? {
                        let [key, value] = <[Value; 2]>::try_from(self.items(&pair)?)
                            .map_err(|_| Error::value("dict takes pairs"))?;
                        self.insert(&mut entries, key, value)?;
                    }
                }
                for (name, value) in arguments.named {
                    self.insert(&mut entries, Value::template(&name), value)?;
                }
                Value::dict(entries)
            }
            Function::Cycler => {
                if arguments.positional.is_empty() {
                    return Err(Error::value("cycler takes at least one item"));
                }
                Value::list(arguments.positional.clone())?;
                Ok(Value::Cycler(Rc::new(Cycler { items: arguments.positional, at: Cell::new(0) })))
            }
            Function::Joiner => {
                let [separator] = arguments.bind("joiner", ["sep"])?;
                let separator = super::arguments::optional_text("joiner", separator)?;
                let separator = separator.unwrap_or_else(|| Text::template(", "));
                Ok(Value::Joiner(Rc::new(Joiner { separator, used: Cell::new(false) })))
            }
            Function::Method => Err(Error::value("a method is called where it is named")),
            Function::RaiseException => {
                let [message] = arguments.bind("raise_exception", ["message"])?;
                let message = match message {
                    Some(message) => self.text_of(&message)?.as_str().to_owned(),
                    None => String::new(),
                };
                Err(Error { line: 0, kind: ErrorKind::Refused(message) })
            }
            Function::StrftimeNow => {
                let [format] = arguments.bind("strftime_now", ["format"])?;
                let format = super::arguments::text("strftime_now", format)?;
                Ok(Value::Str(format.derived(&clock::strftime_now(format.as_str())?)))
            }
        }
    }

    fn range(&mut self, start: i128, stop: i128, step: i128) -> Result<Value, Error> {
        let span = if step > 0 { stop.saturating_sub(start) } else { start.saturating_sub(stop) };
        let count = match step.unsigned_abs() {
            0 => return Err(Error::value("range's step is not zero")),
            step if span > 0 => (span as u128).div_ceil(step),
            _ => 0,
        };
        if count > MAX_RANGE as u128 {
            return Err(Error::limit(0, "a range is longer than 100,000"));
        }
        self.charge(count as usize * VALUE_SIZE)?;
        let numbers = (0..count as i128).map(|i| Value::Int(start.wrapping_add(i.wrapping_mul(step))));
        Value::list(numbers.collect())
    }
}

fn loop_attribute(state: &Loop, name: &str) -> Value {
    let (index, length) = (state.index as i128, state.items.len() as i128);
    match name {
        "index" => Value::Int(index + 1),
        "index0" => Value::Int(index),
        "revindex" => Value::Int(length - index),
        "revindex0" => Value::Int(length - index - 1),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 == length),
        "length" => Value::Int(length),
        "depth" => Value::Int(state.depth as i128),
        "depth0" => Value::Int(state.depth as i128 - 1),
        "previtem" if state.index > 0 => state.items[state.index - 1].clone(),
        "nextitem" if state.index + 1 < state.items.len() => state.items[state.index + 1].clone(),
        _ => Value::undefined(name),
    }
}

/// The index that Python's possibly negative one means.
fn position(index: i128, len: usize) -> Option<usize> {
    let at = if index < 0 { index + len as i128 } else { index };
    usize::try_from(at).ok().filter(|at| *at < len)
}

/// The ends of a slice of step 1.
fn bounds(start: Option<i128>, stop: Option<i128>, len: usize) -> (usize, usize) {
    let clamp = |index: i128| {
        let at = if index < 0 { index.saturating_add(len as i128) } else { index };
        at.clamp(0, len as i128) as usize
    };
    (start.map_or(0, clamp), stop.map_or(len, clamp))
}

/// The indices that a slice visits.
fn stepped(start: Option<i128>, stop: Option<i128>, step: i128, len: usize) -> Vec<usize> {
    let len = len as i128;
    let clamp = |index: i128, low: i128, high: i128| {
        let at = if index < 0 { index.saturating_add(len) } else { index };
        at.clamp(low, high)
    };
    let mut indices = Vec::new();
    if step > 0 {
        let (mut at, stop) = (start.map_or(0, |i| clamp(i, 0, len)), stop.map_or(len, |i| clamp(i, 0, len)));
        while at < stop {
            indices.push(at as usize);
            at = at.saturating_add(step);
        }
    } else {
        let mut at = start.map_or(len - 1, |i| clamp(i, -1, len - 1));
        let stop = stop.map_or(-1, |i| clamp(i, -1, len - 1));
        while at > stop {
            indices.push(at as usize);
            at = at.saturating_add(step);
        }
    }
    indices
}
