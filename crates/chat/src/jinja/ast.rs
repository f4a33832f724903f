//! The tree that a template is parsed into.

/// An expression, the line it begins on, and the levels of the tree below it.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) line: usize,
    pub(super) depth: usize,
    pub(super) kind: ExprKind,
}

/// What an expression does.
#[derive(Debug)]
pub(super) enum ExprKind {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(String),
    Var(String),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// `a.name`.
    Attr(Box<Expr>, String),
    /// `a[b]`.
    Item(Box<Expr>, Box<Expr>),
    /// `a[start:stop:step]`.
    Slice(Box<Expr>, [Option<Box<Expr>>; 3]),
    Call(Box<Expr>, Args),
    Filter(Box<Expr>, String, Args),
    Test(Box<Expr>, String, Args),
    Not(Box<Expr>),
    Neg(Box<Expr>),
    Binary(BinaryOp, Box<Expr>, Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    /// `a < b <= c`.
    Compare(Box<Expr>, Vec<(CompareOp, Expr)>),
    /// `then if test else otherwise`.
    Cond {
        test: Box<Expr>,
        then: Box<Expr>,
        otherwise: Option<Box<Expr>>,
    },
}

impl Expr {
    pub(super) fn new(line: usize, kind: ExprKind) -> Expr {
        let of = |exprs: &mut dyn Iterator<Item = &Expr>| exprs.map(|e| e.depth + 1).max().unwrap_or(0);
        let depth = match &kind {
            ExprKind::List(items) | ExprKind::Tuple(items) => of(&mut items.iter()),
            ExprKind::Dict(items) => of(&mut items.iter().flat_map(|(key, value)| [key, value])),
            ExprKind::Attr(e, _) | ExprKind::Not(e) | ExprKind::Neg(e) => e.depth + 1,
            ExprKind::Item(a, b) | ExprKind::Binary(_, a, b) | ExprKind::And(a, b) | ExprKind::Or(a, b) => {
                a.depth.max(b.depth) + 1
            }
            ExprKind::Slice(e, parts) => {
                (e.depth + 1).max(of(&mut parts.iter().flatten().map(|part| &**part)))
            }
            ExprKind::Call(e, args) | ExprKind::Filter(e, _, args) | ExprKind::Test(e, _, args) => {
                (e.depth + 1).max(of(&mut args.all()))
            }
            ExprKind::Compare(e, rest) => (e.depth + 1).max(of(&mut rest.iter().map(|(_, e)| e))),
            ExprKind::Cond { test, then, otherwise } => {
                let branches = [test, then].into_iter().chain(otherwise);
                of(&mut branches.map(|e| &**e))
            }
            ExprKind::None
            | ExprKind::Bool(_)
            | ExprKind::Int(_)
            | ExprKind::Float(_)
            | ExprKind::Str(_)
            | ExprKind::Var(_) => 0,
        };
        Expr { line, depth, kind }
    }
}

/// Arguments of a call, a filter or a test.
#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(String, Expr)>,
    /// `*list`.
    pub(super) more: Option<Box<Expr>>,
    /// `**dict`.
    pub(super) more_named: Option<Box<Expr>>,
}

impl Args {
    fn all(&self) -> impl Iterator<Item = &Expr> {
        let more = self.more.iter().chain(&self.more_named).map(|more| &**more);
        self.positional.iter().chain(self.named.iter().map(|(_, value)| value)).chain(more)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Rem,
    Pow,
    Concat,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum CompareOp {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}

/// A statement and the line it begins on.
#[derive(Debug)]
pub(super) struct Stmt {
    pub(super) line: usize,
    pub(super) kind: StmtKind,
}

/// What a statement does.
#[derive(Debug)]
pub(super) enum StmtKind {
    Text(String),
    Print(Expr),
    For(Box<For>),
    If {
        branches: Vec<(Expr, Vec<Stmt>)>,
        otherwise: Vec<Stmt>,
    },
    Set {
        target: Target,
        value: Expr,
    },
    /// `set ns.attribute = value`.
    SetAttr {
        namespace: String,
        attribute: String,
        value: Expr,
    },
    /// `set name … endset`.
    SetBlock {
        name: String,
        filters: Vec<FilterCall>,
        body: Vec<Stmt>,
    },
    FilterBlock {
        filters: Vec<FilterCall>,
        body: Vec<Stmt>,
    },
    With {
        assignments: Vec<(String, Expr)>,
        body: Vec<Stmt>,
    },
    /// The declaration of the macro with this number.
    Macro(usize),
    Break,
    Continue,
    /// A block that changes nothing here, such as `generation`.
    Group(Vec<Stmt>),
}

/// What is assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Name(String),
    Tuple(Vec<Target>),
}

/// A filter without its operand.
#[derive(Debug)]
pub(super) struct FilterCall {
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) args: Args,
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) iter: Expr,
    pub(super) filter: Option<Expr>,
    pub(super) body: Vec<Stmt>,
    pub(super) otherwise: Vec<Stmt>,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: String,
    pub(super) params: Vec<(String, Option<Expr>)>,
    pub(super) body: Vec<Stmt>,
}
