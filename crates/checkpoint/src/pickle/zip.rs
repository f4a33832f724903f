//! The directory of a zip archive whose members are stored plain, so that they can be read where they lie.
//!
//! Reads the end record, its 64-bit extension, and the central directory; nothing is decompressed, which leaves no
//! room for a zip bomb. Source: PKWARE's APPNOTE 6.3.

use std::collections::HashMap;
use std::ops::Range;

use crate::cursor::Cursor;
use crate::entry::{self, MAX_TENSORS};
use crate::error::{Damage, Fault};

const END_SIGNATURE: u32 = 0x0605_4b50;
const END_LEN: usize = 22;
const END64_LOCATOR_SIGNATURE: u32 = 0x0706_4b50;
const END64_LOCATOR_LEN: usize = 20;
const END64_SIGNATURE: u32 = 0x0606_4b50;
const CENTRAL_SIGNATURE: u32 = 0x0201_4b50;
const CENTRAL_LEN: usize = 46;
const LOCAL_SIGNATURE: u32 = 0x0403_4b50;
const LOCAL_LEN: u64 = 30;
const ZIP64_EXTRA: u16 = 1;
const MAX_COMMENT: usize = u16::MAX as usize;

/// An archive's members by name, each with the range of its bytes in the file.
pub(super) struct Archive {
    members: HashMap<String, Range<usize>>,
}

impl Archive {
    /// Reads the directory of the archive whose bytes are given.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Damage> {
        let directory = find_directory(bytes)?;
        let mut cursor = Cursor::new(&bytes[directory.range.clone()], directory.range.start as u64);
        // The claimed count is not trusted for a reservation: each member takes at least its fixed part.
        let fit = cursor.left() / CENTRAL_LEN;
        if directory.count > fit.min(MAX_TENSORS) as u64 {
            let limit = fit.min(MAX_TENSORS) as u64;
            return Err(
                Fault::TooMany { what: "archive members", count: directory.count, limit }.at(cursor.offset())
            );
        }
        let mut names = Vec::with_capacity(directory.count as usize);
        let mut spans = Vec::with_capacity(directory.count as usize);
        for _ in 0..directory.count {
            let member = read_central(&mut cursor)?;
            let data = locate(&member, bytes, directory.range.start)?;
            spans.push((member.local_at, data.end as u64));
            names.push((member.name, data));
        }
        if let Some((_, second)) = entry::overlap(spans.iter().copied()) {
            return Err(
                broken(names[second].0, "its bytes overlap those of another member").at(spans[second].0)
            );
        }
        let mut members = HashMap::with_capacity(names.len());
        for ((name, data), (at, _)) in names.into_iter().zip(spans) {
            if members.insert(name.to_owned(), data).is_some() {
                return Err(broken(name, "the archive has two of this name").at(at));
            }
        }
        Ok(Archive { members })
    }

    /// Where a member's bytes lie.
    pub(super) fn member(&self, name: &str) -> Option<Range<usize>> {
        self.members.get(name).cloned()
    }

    /// All member names.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.members.keys().map(String::as_str)
    }
}

struct Directory {
    range: Range<usize>,
    count: u64,
}

fn find_directory(bytes: &[u8]) -> Result<Directory, Damage> {
    let end_at = find_end(bytes)?;
    let mut cursor = Cursor::new(&bytes[end_at + 4..], end_at as u64 + 4);
    let disk = cursor.u16("the archive's end")?;
    let _first_disk = cursor.u16("the archive's end")?;
    let _count_here = cursor.u16("the archive's end")?;
    let mut count = u64::from(cursor.u16("the archive's end")?);
    let mut len = u64::from(cursor.u32("the archive's end")?);
    let mut at = u64::from(cursor.u32("the archive's end")?);
    let mut limit = end_at as u64;
    if disk != 0 && disk != u16::MAX {
        return Err(Fault::Broken("an archive over several disks is not supported").at(end_at as u64));
    }
    if let Some(end64_at) = find_end64(bytes, end_at)? {
        let mut cursor = Cursor::new(&bytes[end64_at..end_at], end64_at as u64);
        const WHAT: &str = "the archive's 64-bit end";
        if cursor.u32(WHAT)? != END64_SIGNATURE {
            return Err(Fault::Broken("the archive's 64-bit end record is not where it should be")
                .at(end64_at as u64));
        }
        // The record's length, two versions, two disk numbers, the count on this disk.
        cursor.take(8 + 2 + 2 + 4 + 4 + 8, WHAT)?;
        count = cursor.u64(WHAT)?;
        len = cursor.u64(WHAT)?;
        at = cursor.u64(WHAT)?;
        limit = end64_at as u64;
    }
    match at.checked_add(len) {
        Some(end) if end <= limit => Ok(Directory { range: at as usize..end as usize, count }),
        _ => Err(Fault::Broken("the archive's directory reaches beyond its end record").at(end_at as u64)),
    }
}

/// Offset of the end record: the last one whose comment fills the file exactly.
fn find_end(bytes: &[u8]) -> Result<usize, Damage> {
    let truncated = Fault::Broken("the archive has no end record: the file is truncated or damaged");
    let Some(last) = bytes.len().checked_sub(END_LEN) else {
        return Err(truncated.at(bytes.len() as u64));
    };
    let signature = END_SIGNATURE.to_le_bytes();
    (last.saturating_sub(MAX_COMMENT)..=last)
        .rev()
        .find(|&at| {
            let comment = u16::from_le_bytes([bytes[at + 20], bytes[at + 21]]);
            bytes[at..at + 4] == signature && at + END_LEN + usize::from(comment) == bytes.len()
        })
        .ok_or(truncated.at(bytes.len() as u64))
}

/// Offset of the 64-bit end record, when there is one.
fn find_end64(bytes: &[u8], end_at: usize) -> Result<Option<usize>, Damage> {
    let Some(locator_at) = end_at.checked_sub(END64_LOCATOR_LEN) else { return Ok(None) };
    let mut cursor = Cursor::new(&bytes[locator_at..end_at], locator_at as u64);
    const WHAT: &str = "the archive's 64-bit locator";
    if cursor.u32(WHAT)? != END64_LOCATOR_SIGNATURE {
        return Ok(None);
    }
    let _disk = cursor.u32(WHAT)?;
    match cursor.u64(WHAT)? {
        at if at < locator_at as u64 => Ok(Some(at as usize)),
        _ => {
            Err(Fault::Broken("the archive's 64-bit end record lies beyond its locator")
                .at(locator_at as u64))
        }
    }
}

struct Member<'a> {
    name: &'a str,
    size: u64,
    local_at: u64,
}

fn read_central<'a>(cursor: &mut Cursor<'a>) -> Result<Member<'a>, Damage> {
    const WHAT: &str = "the archive's directory";
    let at = cursor.offset();
    if cursor.u32(WHAT)? != CENTRAL_SIGNATURE {
        return Err(Fault::Broken("the archive's directory is damaged").at(at));
    }
    let _made_by = cursor.u16(WHAT)?;
    let _needed = cursor.u16(WHAT)?;
    let flags = cursor.u16(WHAT)?;
    let method = cursor.u16(WHAT)?;
    let _time_and_date = cursor.u32(WHAT)?;
    let _crc = cursor.u32(WHAT)?;
    let packed = cursor.u32(WHAT)?;
    let plain = cursor.u32(WHAT)?;
    let name_len = cursor.u16(WHAT)?;
    let extra_len = cursor.u16(WHAT)?;
    let comment_len = cursor.u16(WHAT)?;
    let _disk = cursor.u16(WHAT)?;
    let _internal = cursor.u16(WHAT)?;
    let _external = cursor.u32(WHAT)?;
    let local = cursor.u32(WHAT)?;
    let name = cursor.text(name_len.into(), "an archive member's name")?;
    let extra_at = cursor.offset();
    let extra = cursor.take(extra_len.into(), WHAT)?;
    cursor.take(comment_len.into(), WHAT)?;

    if flags & 1 != 0 {
        return Err(broken(name, "it is encrypted").at(at));
    }
    if method != 0 {
        return Err(Fault::Compressed { member: name.to_owned(), method }.at(at));
    }
    let [plain, packed, local_at] = widen([plain, packed, local], extra, extra_at)?;
    if plain != packed {
        return Err(broken(name, "it is stored plain but has two sizes").at(at));
    }
    Ok(Member { name, size: plain, local_at })
}

/// The sizes and the offset of a member, those that are all ones taken from the 64-bit extra field in order.
fn widen(narrow: [u32; 3], extra: &[u8], extra_at: u64) -> Result<[u64; 3], Damage> {
    let mut wide = narrow.map(u64::from);
    if !narrow.contains(&u32::MAX) {
        return Ok(wide);
    }
    const WHAT: &str = "an archive member's 64-bit sizes";
    let mut cursor = Cursor::new(extra, extra_at);
    while cursor.left() > 0 {
        let id = cursor.u16(WHAT)?;
        let len = cursor.u16(WHAT)?;
        let field_at = cursor.offset();
        let field = cursor.take(len.into(), WHAT)?;
        if id == ZIP64_EXTRA {
            let mut field = Cursor::new(field, field_at);
            for (wide, narrow) in wide.iter_mut().zip(narrow) {
                if narrow == u32::MAX {
                    *wide = field.u64(WHAT)?;
                }
            }
            return Ok(wide);
        }
    }
    Err(Fault::Broken("an archive member lacks its 64-bit sizes").at(extra_at))
}

/// The bytes of a member: behind its local header, before the directory.
fn locate(member: &Member<'_>, bytes: &[u8], directory_at: usize) -> Result<Range<usize>, Damage> {
    let damage = |what| broken(member.name, what).at(member.local_at);
    if member.local_at > directory_at as u64 {
        return Err(damage("it lies beyond the archive's directory"));
    }
    let local = &bytes[member.local_at as usize..directory_at];
    let mut cursor = Cursor::new(local, member.local_at);
    const WHAT: &str = "an archive member's header";
    if cursor.u32(WHAT)? != LOCAL_SIGNATURE {
        return Err(damage("it is not where the directory says"));
    }
    cursor.take(LOCAL_LEN - 4 - 4, WHAT)?;
    let name_len = cursor.u16(WHAT)?;
    let extra_len = cursor.u16(WHAT)?;
    let name = cursor.take(name_len.into(), WHAT)?;
    cursor.take(extra_len.into(), WHAT)?;
    if name != member.name.as_bytes() {
        return Err(damage("its own header gives another name"));
    }
    let start = cursor.offset();
    if member.size > cursor.left() as u64 {
        return Err(damage("its bytes reach into the archive's directory"));
    }
    Ok(start as usize..(start + member.size) as usize)
}

fn broken(member: &str, what: &'static str) -> Fault {
    Fault::BrokenMember { member: member.to_owned(), what }
}
