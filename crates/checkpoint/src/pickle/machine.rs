//! The unpickling machine: a stack, a memo, and only the instructions that a state dict needs.
//!
//! Every value lies in one arena and refers to others by number. Copying a value is copying a number, so a "memo bomb"
//! (a list of lists of lists ... of the same list) costs nothing, and nothing here recurses, so nesting costs nothing
//! either. The number of instructions and of values is bounded. There is no import and no call: `REDUCE` builds one of
//! three kinds of data, and any other name is refused when it is mentioned.

use std::collections::HashMap;

use glimmer_tensor::DType;

use crate::cursor::Cursor;
use crate::entry::MAX_NAME;
use crate::error::{Damage, Fault};

/// The most instructions of one pickle. A tensor takes about forty: this is 50,000 tensors in one file.
const MAX_STEPS: usize = 1 << 21;

/// The longest `module` or `name` line.
const MAX_GLOBAL: usize = 256;

/// Number of a value in the arena.
pub(super) type Id = u32;

/// A value as the machine knows it.
#[derive(Debug)]
pub(super) enum Node {
    /// `None`, a float, bytes: something that no tensor's description depends on.
    Opaque,
    /// A truth value or an integer of at most 64 bits.
    Int(i64),
    /// A string; strings that differ only by place are not shared.
    Str(Box<str>),
    /// A tuple or a list.
    Seq(Vec<Id>),
    /// A dict or an OrderedDict, in order; a later value for an equal key is found by the reader.
    Dict(Vec<(Id, Id)>),
    /// One of the allowed names.
    Global(Global),
    /// A storage that a persistent id described.
    Storage(Storage),
    /// A tensor that `_rebuild_tensor_v2` or `_rebuild_tensor_v3` described.
    Tensor(Tensor),
}

/// The names a state dict may mention.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`, the type of a module's `state_dict()`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`.
    RebuildTensor,
    /// `torch._utils._rebuild_tensor_v3`: a view of bytes, with the type of its elements.
    RebuildTypedTensor,
    /// `torch._utils._rebuild_parameter`: a tensor that was an `nn.Parameter`; it is that tensor.
    RebuildParameter,
    /// `torch.HalfStorage` and its like: the element type of a storage.
    StorageType(ElementType),
    /// `torch.uint16` and its like: the element type of a tensor.
    Type(ElementType),
}

/// What a storage or a tensor is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ElementType {
    /// A type that is read.
    Known(DType),
    /// Another one: what PyTorch calls it, and the bytes of an element.
    Foreign(&'static str, usize),
}

impl ElementType {
    /// Bytes of an element.
    pub(super) fn bytes(self) -> usize {
        match self {
            ElementType::Known(dtype) => dtype.block_bytes(),
            ElementType::Foreign(_, bytes) => bytes,
        }
    }
}

/// The storages of types that are not read, with the bytes of an element.
const FOREIGN_STORAGES: [(&str, usize); 2] = [("ComplexFloatStorage", 8), ("ComplexDoubleStorage", 16)];

/// The types that have no storage of their own (`_new_dtypes` in `torch/storage.py`), with the bytes of an element.
const FOREIGN_TYPES: [(&str, usize); 15] = [
    ("float8_e5m2", 1),
    ("float8_e4m3fn", 1),
    ("float8_e5m2fnuz", 1),
    ("float8_e4m3fnuz", 1),
    ("float8_e8m0fnu", 1),
    ("float4_e2m1fn_x2", 1),
    ("bits8", 1),
    ("bits16", 2),
    ("bits1x8", 1),
    ("bits2x4", 1),
    ("bits4x2", 1),
    ("complex32", 4),
    ("uint16", 2),
    ("uint32", 4),
    ("uint64", 8),
];

/// One member of the archive under `data/`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    /// The member's name, a [`Node::Str`].
    pub(super) key: Id,
    /// Type of its elements.
    pub(super) element: ElementType,
    /// Number of its elements.
    pub(super) len: u64,
}

/// A view of a storage.
#[derive(Debug, Clone)]
pub(super) struct Tensor {
    /// The storage.
    pub(super) storage: Storage,
    /// Type of its elements.
    pub(super) element: ElementType,
    /// Its first element.
    pub(super) start: i64,
    /// Shape, outermost first: a [`Node::Seq`].
    pub(super) shape: Id,
    /// Strides in elements: a [`Node::Seq`].
    pub(super) strides: Id,
}

/// What a pickle was evaluated to.
pub(super) struct Values {
    nodes: Vec<Node>,
    /// The value of the whole pickle.
    pub(super) root: Id,
}

impl Values {
    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }
}

/// Evaluates a pickle that lies `base` bytes into its file.
pub(super) fn run(pickle: &[u8], base: u64) -> Result<Values, Damage> {
    let mut machine =
        Machine { nodes: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    let mut cursor = Cursor::new(pickle, base);
    for _ in 0..MAX_STEPS {
        let at = cursor.offset();
        let opcode = cursor.u8("the pickle")?;
        match machine.step(opcode, &mut cursor) {
            Ok(None) => {}
            Ok(Some(root)) => return Ok(Values { nodes: machine.nodes, root }),
            Err(Stop::Damage(damage)) => return Err(damage),
            Err(Stop::Fault(fault)) => return Err(fault.at(at)),
        }
    }
    let limit = MAX_STEPS as u64;
    Err(Fault::TooMany { what: "instructions of the pickle", count: limit + 1, limit }.at(cursor.offset()))
}

/// Why a step failed: with its own offset, or at the instruction.
enum Stop {
    Damage(Damage),
    Fault(Fault),
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Stop::Damage(damage)
    }
}

impl From<Fault> for Stop {
    fn from(fault: Fault) -> Self {
        Stop::Fault(fault)
    }
}

struct Machine {
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Machine {
    /// Executes one instruction; returns the result at `STOP`.
    fn step(&mut self, opcode: u8, cursor: &mut Cursor<'_>) -> Result<Option<Id>, Stop> {
        const WHAT: &str = "the pickle";
        match opcode {
            // PROTO, FRAME: nothing to do. Protocols above 5 do not exist and their instructions would be refused.
            0x80 => drop(cursor.take(1, WHAT)?),
            0x95 => drop(cursor.take(8, WHAT)?),
            // MARK
            b'(' => self.marks.push(self.stack.len()),
            // NONE
            b'N' => self.push(Node::Opaque),
            // NEWTRUE, NEWFALSE
            0x88 => self.push(Node::Int(1)),
            0x89 => self.push(Node::Int(0)),
            // BININT, BININT1, BININT2, LONG1
            b'J' => {
                let value = cursor.u32(WHAT)? as i32;
                self.push(Node::Int(value.into()));
            }
            b'K' => {
                let value = cursor.u8(WHAT)?;
                self.push(Node::Int(value.into()));
            }
            b'M' => {
                let value = cursor.u16(WHAT)?;
                self.push(Node::Int(value.into()));
            }
            0x8a => {
                let len = cursor.u8(WHAT)?;
                let value = long(cursor.take(len.into(), WHAT)?)?;
                self.push(Node::Int(value));
            }
            // BINFLOAT
            b'G' => {
                cursor.take(8, WHAT)?;
                self.push(Node::Opaque);
            }
            // BINUNICODE, SHORT_BINUNICODE; BINSTRING, SHORT_BINSTRING (Python 2)
            b'X' | b'T' => {
                let len = cursor.u32(WHAT)?;
                self.push_text(len.into(), cursor)?;
            }
            0x8c | b'U' => {
                let len = cursor.u8(WHAT)?;
                self.push_text(len.into(), cursor)?;
            }
            // EMPTY_TUPLE, TUPLE1..3, TUPLE, EMPTY_LIST, LIST
            b')' | b']' => self.push(Node::Seq(Vec::new())),
            0x85..=0x87 => {
                let items = self.pop_many((opcode - 0x84).into())?;
                self.push(Node::Seq(items));
            }
            b't' | b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Seq(items));
            }
            // APPEND, APPENDS
            b'a' => {
                let item = self.pop()?;
                self.append(&[item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(&items)?;
            }
            // EMPTY_DICT, SETITEM, SETITEMS
            b'}' => self.push(Node::Dict(Vec::new())),
            b's' => {
                let items = self.pop_many(2)?;
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let key = cursor.u8(WHAT)?;
                self.memoize(key.into())?;
            }
            b'r' => {
                let key = cursor.u32(WHAT)?;
                self.memoize(key)?;
            }
            0x94 => {
                let key = u32::try_from(self.memo.len()).expect("fewer memo entries than steps");
                self.memoize(key)?;
            }
            b'h' => {
                let key = cursor.u8(WHAT)?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = cursor.u32(WHAT)?;
                self.recall(key)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let module = cursor.line(MAX_GLOBAL, "a name in the pickle")?;
                let name = cursor.line(MAX_GLOBAL, "a name in the pickle")?;
                let global = global(module, name)?;
                self.push(Node::Global(global));
            }
            0x93 => {
                let names = self.pop_many(2)?;
                let (Node::Str(module), Node::Str(name)) = (self.node(names[0]), self.node(names[1])) else {
                    return Err(
                        Fault::Broken("the pickle names something with other than two strings").into()
                    );
                };
                let global = global(module, name)?;
                self.push(Node::Global(global));
            }
            // BINPERSID, REDUCE, BUILD
            b'Q' => {
                let id = self.pop()?;
                let storage = self.storage(id)?;
                self.push(Node::Storage(storage));
            }
            b'R' => {
                let call = self.pop_many(2)?;
                let built = self.reduce(call[0], call[1])?;
                self.stack.push(built);
            }
            b'b' => self.build()?,
            // STOP
            b'.' => return Ok(Some(self.pop()?)),
            _ => return Err(Fault::ForbiddenOpcode(opcode).into()),
        }
        Ok(None)
    }

    fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    fn new_node(&mut self, node: Node) -> Id {
        let id = Id::try_from(self.nodes.len()).expect("fewer values than steps");
        self.nodes.push(node);
        id
    }

    fn push(&mut self, node: Node) {
        let id = self.new_node(node);
        self.stack.push(id);
    }

    fn push_text(&mut self, len: u64, cursor: &mut Cursor<'_>) -> Result<(), Stop> {
        if len > MAX_NAME {
            return Err(Fault::TooMany { what: "bytes of a string", count: len, limit: MAX_NAME }.into());
        }
        let text = cursor.text(len, "a string in the pickle")?;
        self.push(Node::Str(text.into()));
        Ok(())
    }

    /// The last `n` values, none of them from before the last mark.
    fn pop_many(&mut self, n: usize) -> Result<Vec<Id>, Stop> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.len().checked_sub(n) {
            Some(at) if at >= floor => Ok(self.stack.split_off(at)),
            _ => Err(Fault::Broken("the pickle takes more values than it made").into()),
        }
    }

    fn pop(&mut self) -> Result<Id, Stop> {
        Ok(self.pop_many(1)?[0])
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Stop> {
        let at = self.marks.pop().ok_or(Fault::Broken("the pickle refers to a mark it did not set"))?;
        Ok(self.stack.split_off(at))
    }

    fn top(&mut self) -> Result<Id, Stop> {
        let id = self.pop()?;
        self.stack.push(id);
        Ok(id)
    }

    fn memoize(&mut self, key: u32) -> Result<(), Stop> {
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), Stop> {
        let id = self.memo.get(&key).ok_or(Fault::Broken("the pickle recalls a value it did not store"))?;
        self.stack.push(*id);
        Ok(())
    }

    fn append(&mut self, items: &[Id]) -> Result<(), Stop> {
        let list = self.top()?;
        match &mut self.nodes[list as usize] {
            Node::Seq(list) => list.extend_from_slice(items),
            _ => return Err(Fault::Broken("the pickle appends to something other than a list").into()),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), Stop> {
        let dict = self.top()?;
        let Node::Dict(dict) = &mut self.nodes[dict as usize] else {
            return Err(Fault::Broken("the pickle sets items of something other than a dict").into());
        };
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Fault::Broken("the pickle sets a dict's key without a value").into());
        }
        dict.extend(pairs.iter().map(|&[key, value]| (key, value)));
        Ok(())
    }

    /// A persistent id is `("storage", type, member, device, elements)`.
    fn storage(&self, id: Id) -> Result<Storage, Fault> {
        const BROKEN: Fault = Fault::Broken("the pickle's description of a storage is malformed");
        let Node::Seq(parts) = self.node(id) else { return Err(BROKEN) };
        let &[kind, dtype, key, _device, len] = parts.as_slice() else { return Err(BROKEN) };
        match (self.node(kind), self.node(dtype), self.node(key), self.node(len)) {
            (Node::Str(kind), &Node::Global(Global::StorageType(element)), Node::Str(_), &Node::Int(len))
                if &**kind == "storage" =>
            {
                Ok(Storage { key, element, len: u64::try_from(len).map_err(|_| BROKEN)? })
            }
            _ => Err(BROKEN),
        }
    }

    /// What Python would call: an empty OrderedDict, a tensor, or a parameter around a tensor.
    fn reduce(&mut self, callee: Id, arguments: Id) -> Result<Id, Fault> {
        const BROKEN: Fault = Fault::Broken("the pickle's description of a tensor is malformed");
        let Node::Seq(arguments) = self.node(arguments) else { return Err(BROKEN) };
        let Node::Global(callee) = *self.node(callee) else {
            return Err(Fault::Broken("the pickle calls something that is no name"));
        };
        let built = match (callee, arguments.as_slice()) {
            (Global::OrderedDict, []) => Node::Dict(Vec::new()),
            // (storage, first element, shape, strides, requires_grad, hooks[, metadata])
            (Global::RebuildTensor, &[storage, start, shape, strides, ..]) => {
                let (&Node::Storage(storage), &Node::Int(start)) = (self.node(storage), self.node(start))
                else {
                    return Err(BROKEN);
                };
                Node::Tensor(Tensor { storage, element: storage.element, start, shape, strides })
            }
            // (storage, first element, shape, strides, requires_grad, hooks, type[, metadata])
            (Global::RebuildTypedTensor, &[storage, start, shape, strides, _, _, element, ..]) => {
                match (self.node(storage), self.node(start), self.node(element)) {
                    (&Node::Storage(storage), &Node::Int(start), &Node::Global(Global::Type(element))) => {
                        Node::Tensor(Tensor { storage, element, start, shape, strides })
                    }
                    _ => return Err(BROKEN),
                }
            }
            // (tensor, requires_grad, hooks)
            (Global::RebuildParameter, &[tensor, ..]) => {
                return match self.node(tensor) {
                    Node::Tensor(_) => Ok(tensor),
                    _ => Err(BROKEN),
                };
            }
            _ => return Err(BROKEN),
        };
        Ok(self.new_node(built))
    }

    /// Attributes of an object. A `state_dict()` has one, `_metadata` with module versions; it says nothing of weights.
    fn build(&mut self) -> Result<(), Stop> {
        self.pop()?;
        let object = self.top()?;
        match self.node(object) {
            Node::Dict(_) => Ok(()),
            _ => Err(Fault::Broken("the pickle sets attributes of something other than a dict").into()),
        }
    }
}

/// A little-endian two's complement integer of any length up to eight bytes.
fn long(bytes: &[u8]) -> Result<i64, Fault> {
    if bytes.len() > 8 {
        return Err(Fault::Broken("the pickle has an integer of more than 64 bits"));
    }
    let fill = if bytes.last().is_some_and(|b| b & 0x80 != 0) { 0xff } else { 0 };
    let mut wide = [fill; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    Ok(i64::from_le_bytes(wide))
}

/// The allowed names; every other one is refused.
fn global(module: &str, name: &str) -> Result<Global, Fault> {
    let known = |dtype| Global::StorageType(ElementType::Known(dtype));
    let foreign = |types: &'static [(&str, usize)]| {
        let found = types.iter().find(|(other, _)| module == "torch" && *other == name);
        found.map(|&(name, bytes)| ElementType::Foreign(name, bytes))
    };
    Ok(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_tensor_v3") => Global::RebuildTypedTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "DoubleStorage") => known(DType::F64),
        ("torch", "FloatStorage") => known(DType::F32),
        ("torch", "HalfStorage") => known(DType::F16),
        ("torch", "BFloat16Storage") => known(DType::BF16),
        ("torch", "LongStorage") => known(DType::I64),
        ("torch", "IntStorage") => known(DType::I32),
        ("torch", "ShortStorage") => known(DType::I16),
        ("torch", "CharStorage") => known(DType::I8),
        ("torch", "ByteStorage") => known(DType::U8),
        ("torch", "BoolStorage") => known(DType::Bool),
        ("torch.storage", "UntypedStorage") => known(DType::U8),
        _ if let Some(element) = foreign(&FOREIGN_STORAGES) => Global::StorageType(element),
        _ if let Some(element) = foreign(&FOREIGN_TYPES) => Global::Type(element),
        _ => return Err(Fault::ForbiddenGlobal(format!("{module}.{name}"))),
    })
}
