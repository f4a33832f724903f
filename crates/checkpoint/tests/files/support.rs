//! Byte-level builders of model files, correct or not, and what every error must look like.

use std::path::{Path, PathBuf};

use glimmer_checkpoint::Checkpoint;
use tempfile::TempDir;

/// The fixture in the repository, or in the shared folder beside it.
pub(crate) fn fixture(name: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let shared = std::env::var_os("GLIMMER_SHARED").map_or(root.join("../shared"), PathBuf::from);
    [root.join("fixtures").join(name), shared.join("fixtures").join(name)].into_iter().find(|p| p.exists())
}

/// A file or directory of the test data.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A directory with these files in it.
pub(crate) fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    directory
}

/// Opens a model that must open, gives every tensor a look.
pub(crate) fn open(path: &Path) -> Checkpoint {
    let model = Checkpoint::open(path).unwrap_or_else(|e| panic!("{e}"));
    for info in model.tensors() {
        assert_eq!(model.tensor(&info.name).unwrap().data.len(), info.bytes);
    }
    model
}

/// The message with which `path` is refused: one line that names `file`.
pub(crate) fn refusal(path: &Path, file: &str) -> String {
    match Checkpoint::open(path) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => one_line(error.to_string(), file),
    }
}

/// Checks that a message is one line of sensible length that names `file`.
pub(crate) fn one_line(message: String, file: &str) -> String {
    assert!(!message.chars().any(char::is_control), "{message:?}");
    assert!(message.len() < 1000, "{message}");
    assert!(message.contains(file), "{message} does not name {file}");
    message
}

/// The message with which a lone file of these bytes is refused.
pub(crate) fn refused(name: &str, bytes: &[u8]) -> String {
    let directory = directory(&[(name, bytes)]);
    refusal(&directory.path().join(name), name)
}

/// Asserts that a message has all the parts.
#[track_caller]
pub(crate) fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

pub(crate) fn crc32(mut crc: u32, bytes: &[u8]) -> u32 {
    crc = !crc;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

/// A safetensors file with this header and data.
pub(crate) fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// The bytes of a GGUF header, piece by piece.
#[derive(Clone)]
pub(crate) struct GgufBytes(pub(crate) Vec<u8>);

impl GgufBytes {
    pub(crate) fn new(version: u32, tensors: u64, pairs: u64) -> Self {
        GgufBytes(b"GGUF".to_vec()).u32(version).u64(tensors).u64(pairs)
    }

    pub(crate) fn u32(mut self, v: u32) -> Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    pub(crate) fn u64(mut self, v: u64) -> Self {
        self.0.extend_from_slice(&v.to_le_bytes());
        self
    }

    pub(crate) fn bytes(mut self, v: &[u8]) -> Self {
        self.0.extend_from_slice(v);
        self
    }

    pub(crate) fn text(self, v: &str) -> Self {
        self.u64(v.len() as u64).bytes(v.as_bytes())
    }

    /// A key with a u32.
    pub(crate) fn pair(self, key: &str, value: u32) -> Self {
        self.text(key).u32(4).u32(value)
    }

    /// A tensor's description, dimensions innermost first as in the file.
    pub(crate) fn tensor(self, name: &str, dims: &[u64], ggml_type: u32, offset: u64) -> Self {
        let described = self.text(name).u32(dims.len() as u32);
        dims.iter().fold(described, |s, &d| s.u64(d)).u32(ggml_type).u64(offset)
    }

    /// Padding to the default alignment, then `len` bytes of data.
    pub(crate) fn data(mut self, len: usize) -> Vec<u8> {
        let at = self.0.len().next_multiple_of(32);
        self.0.resize(at + len, 0);
        self.0
    }
}

/// One member of an archive.
pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) method: u16,
    pub(crate) flags: u16,
    /// Whether the directory gives its sizes and place in 64 bits only.
    pub(crate) wide: bool,
}

pub(crate) fn member(name: &str, bytes: &[u8]) -> Member {
    Member { name: name.to_owned(), bytes: bytes.to_vec(), method: 0, flags: 0, wide: false }
}

/// A zip archive of these members.
pub(crate) fn zip(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut central = Vec::new();
    let u16s = |out: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
    };
    let u32s = |out: &mut Vec<u8>, values: &[u32]| {
        values.iter().for_each(|v| out.extend_from_slice(&v.to_le_bytes()));
    };
    for m in members {
        let at = out.len() as u32;
        let (crc, len) = (crc32(0, &m.bytes), m.bytes.len() as u32);
        u32s(&mut out, &[0x0403_4b50]);
        u16s(&mut out, &[20, m.flags, m.method, 0, 0]);
        u32s(&mut out, &[crc, len, len]);
        u16s(&mut out, &[m.name.len() as u16, 0]);
        out.extend_from_slice(m.name.as_bytes());
        out.extend_from_slice(&m.bytes);
        u32s(&mut central, &[0x0201_4b50]);
        u16s(&mut central, &[20, 20, m.flags, m.method, 0, 0]);
        let narrow = |v: u32| if m.wide { u32::MAX } else { v };
        u32s(&mut central, &[crc, narrow(len), narrow(len)]);
        u16s(&mut central, &[m.name.len() as u16, if m.wide { 36 } else { 0 }, 0, 0, 0]);
        u32s(&mut central, &[0, narrow(at)]);
        central.extend_from_slice(m.name.as_bytes());
        if m.wide {
            // Another extra field, then the 64-bit one.
            u16s(&mut central, &[0x5455, 4, 0, 0, 1, 24]);
            [len, len, at].iter().for_each(|&v| u32s(&mut central, &[v, 0]));
        }
    }
    let (at, len, count) = (out.len() as u32, central.len() as u32, members.len() as u16);
    out.extend_from_slice(&central);
    u32s(&mut out, &[0x0605_4b50]);
    u16s(&mut out, &[0, 0, count, count]);
    u32s(&mut out, &[len, at]);
    u16s(&mut out, &[0]);
    out
}

/// Pickle code for a tensor: a view of the archive member `data/KEY` with `len` elements.
pub(crate) fn tensor_code(
    storage: &str,
    key: &str,
    len: i32,
    start: i32,
    shape: &[i32],
    strides: &[i32],
) -> Vec<u8> {
    let mut code = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    text(&mut code, "storage");
    code.extend_from_slice(format!("ctorch\n{storage}\n").as_bytes());
    text(&mut code, key);
    text(&mut code, "cpu");
    int(&mut code, len);
    code.extend_from_slice(b"tQ");
    int(&mut code, start);
    for sizes in [shape, strides] {
        code.push(b'(');
        sizes.iter().for_each(|&size| int(&mut code, size));
        code.push(b't');
    }
    // requires_grad False, hooks OrderedDict().
    code.extend_from_slice(b"\x89ccollections\nOrderedDict\n)RtR");
    code
}

/// Pickle code for a tensor of a type without a storage of its own: a view of `len` bytes.
pub(crate) fn typed_tensor_code(dtype: &str, len: i32, start: i32, shape: &[i32]) -> Vec<u8> {
    let code = tensor_code("UntypedStorage", "0", len, start, shape, &vec![1; shape.len()]);
    let code = replaced(&code, "_rebuild_tensor_v2", "_rebuild_tensor_v3");
    let code = replaced(&code, "torch\nUntypedStorage", "torch.storage\nUntypedStorage");
    // The type stands after the hooks.
    replaced(&code, "OrderedDict\n)R", &format!("OrderedDict\n)Rctorch\n{dtype}\n"))
}

/// The bytes with the one place that has `from` changed.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

/// Pickle code for a dict of names and code.
pub(crate) fn dict_code(items: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut code = b"\x80\x02}(".to_vec();
    for (name, value) in items {
        text(&mut code, name);
        code.extend_from_slice(value);
    }
    code.extend_from_slice(b"u.");
    code
}

/// A PyTorch archive of this pickle and these storages.
pub(crate) fn archive(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let mut members = vec![member("m/data.pkl", pickle)];
    members.extend(storages.iter().map(|(key, bytes)| member(&format!("m/data/{key}"), bytes)));
    zip(&members)
}

fn text(code: &mut Vec<u8>, text: &str) {
    code.push(b'X');
    code.extend_from_slice(&(text.len() as u32).to_le_bytes());
    code.extend_from_slice(text.as_bytes());
}

fn int(code: &mut Vec<u8>, value: i32) {
    code.push(b'J');
    code.extend_from_slice(&value.to_le_bytes());
}
