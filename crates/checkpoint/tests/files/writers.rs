//! What is written is read back equal, and nothing is ever half-written.

use std::path::Path;

use glimmer_checkpoint::gguf::{Array, GgufWriter, Metadata, Strings, Value};
use glimmer_checkpoint::safetensors::{SafetensorsFile, SafetensorsWriter};
use glimmer_checkpoint::{Checkpoint, NewTensor, remove_leftovers};
use glimmer_tensor::DType;

use crate::support::{data, fixture, one_line, open, says};

fn new(name: &str, dtype: DType, shape: &[usize]) -> NewTensor {
    NewTensor { name: name.to_owned(), dtype, shape: shape.to_vec() }
}

fn announced(model: &Checkpoint) -> Vec<NewTensor> {
    model.tensors().iter().map(|t| new(&t.name, t.dtype, &t.shape)).collect()
}

fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn assert_same(model: &Checkpoint, copy: &Checkpoint) {
    assert_eq!(model.tensors().len(), copy.tensors().len());
    for info in model.tensors() {
        let (a, b) = (model.tensor(&info.name).unwrap(), copy.tensor(&info.name).unwrap());
        assert_eq!((&a.info.dtype, &a.info.shape), (&b.info.dtype, &b.info.shape));
        assert!(a.data == b.data, "{}", info.name);
    }
}

#[test]
fn gguf_round_trip_is_the_same_file() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["everything.gguf", "aligned.gguf"] {
        let source = data("gguf").join(name);
        let model = open(&source);
        let path = directory.path().join(name);
        let mut writer = GgufWriter::create(&path, model.metadata().unwrap(), &announced(&model)).unwrap();
        // In pieces, and not in order.
        for info in model.tensors().iter().rev() {
            for piece in model.tensor(&info.name).unwrap().data.chunks(7) {
                writer.write(&info.name, piece).unwrap();
            }
        }
        writer.finish().unwrap();
        // gguf-py lays files out the same way.
        assert!(std::fs::read(&path).unwrap() == std::fs::read(&source).unwrap(), "{name}");
    }
    assert_eq!(files(directory.path()), ["aligned.gguf", "everything.gguf"]);
}

#[test]
fn every_array_kind_round_trips() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.gguf");
    let mut metadata = Metadata::new(&path);
    metadata.set("general.architecture", "glm4");
    let arrays = [
        Array::U8(vec![1]),
        Array::I8(vec![-1, 2]),
        Array::U16(vec![1; 3]),
        Array::I16(vec![-5]),
        Array::U32(vec![u32::MAX]),
        Array::I32(vec![i32::MIN]),
        Array::U64(vec![u64::MAX]),
        Array::I64(vec![i64::MIN]),
        Array::F32(vec![f32::MIN_POSITIVE]),
        Array::F64(vec![0.1, f64::MAX]),
        Array::Bool(vec![true, false]),
        Array::Str(["é", ""].iter().collect()),
        Array::Str(Strings::default()),
    ];
    for (at, array) in arrays.into_iter().enumerate() {
        metadata.set(&format!("array.{at}"), Value::Array(array));
    }
    GgufWriter::create(&path, &metadata, &[]).unwrap().finish().unwrap();
    let read = open(&path);
    assert!(read.metadata().unwrap().iter().eq(metadata.iter()));
}

#[test]
fn fixtures_round_trip_through_safetensors() {
    for name in ["chatglm-6b-int8", "chatglm3-6b", "glm-4-9b-chat-hf"] {
        let Some(source) = fixture(name) else {
            println!("skipped: ../shared not present ({name})");
            continue;
        };
        let model = open(&source);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out");
        // A part holds a fifth of the model.
        let limit = model.tensors().iter().map(|t| t.bytes as u64).sum::<u64>() / 5;
        let mut writer = SafetensorsWriter::create(&path, &announced(&model), limit).unwrap();
        for info in model.tensors() {
            writer.write(&info.name, model.tensor(&info.name).unwrap().data).unwrap();
        }
        writer.add_file("config.json", model.config().unwrap().to_string().as_bytes()).unwrap();
        assert_eq!(files(directory.path()).len(), 1, "nothing under the final name yet");
        assert!(!path.exists());
        writer.finish().unwrap();
        let copy = open(&path);
        assert_same(&model, &copy);
        assert_eq!(copy.config(), model.config());
        let names = files(&path);
        assert!(names.len() >= 5 + 2, "{names:?}");
        assert!(names.contains(&"model.safetensors.index.json".to_owned()));
        assert_eq!(files(directory.path()), ["out"]);
    }
}

#[test]
fn wider_elements_come_first_so_that_all_are_aligned() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("m.safetensors");
    let tensors =
        [new("bytes", DType::U8, &[3]), new("half", DType::F16, &[5]), new("wide", DType::I64, &[1, 2])];
    let mut writer = SafetensorsFile::create(&path, &tensors, &[("format", "pt")]).unwrap();
    writer.write("bytes", &[1, 2, 3]).unwrap();
    writer.write("half", &[4; 10]).unwrap();
    writer.write("wide", &[5; 16]).unwrap();
    writer.finish().unwrap();
    let model = open(&path);
    for info in model.tensors() {
        assert!(info.offset.is_multiple_of(info.dtype.block_bytes() as u64), "{}", info.name);
    }
    assert_eq!(model.tensor("half").unwrap().data, [4; 10]);
    let header = glimmer_checkpoint::safetensors::parse(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(header.metadata, [("format".to_owned(), "pt".to_owned())]);
}

#[test]
fn one_part_has_no_index() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let mut writer = SafetensorsWriter::create(&path, &[new("a", DType::F32, &[2])], u64::MAX).unwrap();
    writer.write("a", &[0; 8]).unwrap();
    writer.finish().unwrap();
    assert_eq!(files(&path), ["model.safetensors"]);
}

#[test]
fn nothing_is_left_of_what_was_not_finished() {
    let directory = tempfile::tempdir().unwrap();
    let tensors = [new("a", DType::F32, &[2])];
    let gguf = directory.path().join("m.gguf");
    let out = directory.path().join("out");
    std::fs::write(&gguf, b"an older file").unwrap();

    let mut writer = GgufWriter::create(&gguf, &Metadata::new(&gguf), &tensors).unwrap();
    writer.write("a", &[0; 4]).unwrap();
    drop(writer);
    let mut writer = SafetensorsWriter::create(&out, &tensors, 1).unwrap();
    writer.write("a", &[0; 4]).unwrap();
    writer.add_file("config.json", b"{}").unwrap();
    drop(writer);
    // An unfinished tensor is an error, and then too there is nothing.
    let mut writer = GgufWriter::create(&gguf, &Metadata::new(&gguf), &tensors).unwrap();
    writer.write("a", &[0; 4]).unwrap();
    let message = one_line(writer.finish().unwrap_err().to_string(), "m.gguf");
    says(&message, &["`a`", "4 of its 8 bytes"]);
    let writer = SafetensorsWriter::create(&out, &tensors, 1).unwrap();
    says(&writer.finish().unwrap_err().to_string(), &["`a`", "0 of its 8 bytes"]);

    assert_eq!(files(directory.path()), ["m.gguf"]);
    assert_eq!(std::fs::read(&gguf).unwrap(), b"an older file");
    let mut writer = GgufWriter::create(&gguf, &Metadata::new(&gguf), &tensors).unwrap();
    writer.write("a", &[0; 8]).unwrap();
    writer.finish().unwrap();
    assert_eq!(open(&gguf).tensors().len(), 1);
}

/// A killed process removes nothing itself. What it left is told by a lock from what somebody writes.
#[test]
fn what_a_killed_process_left_is_removed_and_nothing_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (gguf, out) = (path("m.gguf"), path("out"));
    let tensors = [new("a", DType::F32, &[2])];
    let writing = GgufWriter::create(&gguf, &Metadata::new(&gguf), &tensors).unwrap();
    let filling = SafetensorsWriter::create(&out, &tensors, 1).unwrap();
    let in_use = files(directory.path());
    assert_eq!(in_use.len(), 2);
    for name in [".m.gguf.tmp-1-0", ".m.gguf.tmp-1", ".m.gguf.tmp-1-x", ".n.gguf.tmp-1-0", ".m.gguf.bak-1-0"]
    {
        std::fs::write(path(name), b"half").unwrap();
    }
    std::fs::create_dir(path(".out.tmp-7-3")).unwrap();
    std::fs::write(path(".out.tmp-7-3").join("model.safetensors"), b"half").unwrap();
    assert!(std::process::Command::new("mkfifo").arg(path(".m.gguf.tmp-2-0")).status().unwrap().success());

    assert_eq!(remove_leftovers(&gguf), [path(".m.gguf.tmp-1-0")]);
    assert_eq!(remove_leftovers(&out), [path(".out.tmp-7-3")]);
    assert!(remove_leftovers(&gguf).is_empty());
    for name in &in_use {
        assert!(path(name).exists(), "{name}");
    }
    drop((writing, filling));
    let strangers =
        [".m.gguf.bak-1-0", ".m.gguf.tmp-1", ".m.gguf.tmp-1-x", ".m.gguf.tmp-2-0", ".n.gguf.tmp-1-0"];
    assert_eq!(files(directory.path()), strangers);
    assert!(remove_leftovers(Path::new("/")).is_empty());
}

/// The moment between the two names of a replaced directory is survived, too.
#[test]
fn a_directory_that_is_replaced_is_never_lost() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let tensors = [new("a", DType::F32, &[2])];
    let replace = || SafetensorsWriter::replace(&path("out"), &tensors, u64::MAX).unwrap();
    std::fs::create_dir(path("out")).unwrap();
    std::fs::write(path("out").join("old"), b"").unwrap();
    drop(replace());
    assert_eq!((files(directory.path()), files(&path("out"))), (vec!["out".into()], vec!["old".into()]));

    std::fs::rename(path("out"), path(".out.old-5-1")).unwrap();
    assert!(remove_leftovers(&path("out")).is_empty());
    assert_eq!((files(directory.path()), files(&path("out"))), (vec!["out".into()], vec!["old".into()]));

    std::fs::create_dir(path(".out.old-5-1")).unwrap();
    assert_eq!(remove_leftovers(&path("out")), [path(".out.old-5-1")]);
    let mut writer = replace();
    writer.write("a", &[0; 8]).unwrap();
    writer.finish().unwrap();
    let new = vec!["model.safetensors".to_owned()];
    assert_eq!((files(directory.path()), files(&path("out"))), (vec!["out".into()], new));
}

#[test]
fn what_cannot_be_written_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let gguf = directory.path().join("m.gguf");
    let create = |tensor: NewTensor| match GgufWriter::create(&gguf, &Metadata::new(&gguf), &[tensor]) {
        Ok(_) => panic!("created"),
        Err(error) => one_line(error.to_string(), "m.gguf"),
    };
    says(&create(new("a", DType::RowI4, &[2, 2])), &["`a`", "no type for INT4"]);
    says(&create(new("a", DType::Q4_K, &[2, 100])), &["`a`", "100", "256"]);
    says(&create(new("a", DType::F32, &[1; 5])), &["dimensions"]);
    says(&create(new("a", DType::F32, &[usize::MAX, 2])), &["too large"]);
    says(&create(new(&"a".repeat(64), DType::F32, &[1])), &["63 bytes"]);
    let twice = [new("a", DType::F32, &[1]), new("a", DType::F32, &[1])];
    says(
        &GgufWriter::create(&gguf, &Metadata::new(&gguf), &twice).err().unwrap().to_string(),
        &["`a`", "twice"],
    );
    let mut metadata = Metadata::new(&gguf);
    metadata.set("general.alignment", 3u32);
    says(&GgufWriter::create(&gguf, &metadata, &[]).err().unwrap().to_string(), &["power of two"]);

    let out = directory.path().join("out");
    let quantized = [new("a", DType::Q4_0, &[32])];
    says(&SafetensorsWriter::create(&out, &quantized, 1).err().unwrap().to_string(), &["no type for Q4_0"]);
    let mut writer = SafetensorsWriter::create(&out, &[new("a", DType::F32, &[1])], 1).unwrap();
    says(&writer.write("b", &[0]).unwrap_err().to_string(), &["`b`", "not announced"]);
    says(&writer.write("a", &[0; 5]).unwrap_err().to_string(), &["`a`", "room for 4"]);
    for name in ["../x", "/x", "a/b", "..", ""] {
        says(&writer.add_file(name, b"").unwrap_err().to_string(), &["plain name"]);
    }
    drop(writer);
    std::fs::create_dir(&out).unwrap();
    std::fs::write(out.join("precious"), b"x").unwrap();
    says(&SafetensorsWriter::create(&out, &[], 1).err().unwrap().to_string(), &["already exists"]);
    says(
        &GgufWriter::create(&out, &Metadata::new(&out), &[]).err().unwrap().to_string(),
        &["already exists"],
    );
    let nowhere = directory.path().join("absent/m.gguf");
    says(
        &GgufWriter::create(&nowhere, &Metadata::new(&nowhere), &[]).err().unwrap().to_string(),
        &["no such file"],
    );
    assert_eq!(files(directory.path()), ["out"]);
}
