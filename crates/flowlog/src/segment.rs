//! Segment files: their names, and a cursor that reads groups out of one.

use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile};
use crate::error::{Corrupt, LogError};
use crate::format::{
    self, Defect, FORMAT_VERSION, GROUP_HEADER_LEN, GroupHeader, SEGMENT_HEADER_LEN, SegmentHeader,
};
use crate::options::LogOptions;
use crate::position::Position;

/// Files are read in pieces of this size, unless a group is larger.
const READ_BYTES: usize = 512 * 1024;
/// A new segment is made under this name and renamed when its header is durable.
pub(crate) const NEW_SEGMENT: &str = "new.tmp";
/// A segment that waits until the present one is full, and has no header yet.
pub(crate) const SPARE_SEGMENT: &str = "spare.tmp";

/// The file name of the segment that begins at a position.
pub(crate) fn name(first: Position) -> String {
    format!("{:020}.seg", first.0)
}

/// The position in a segment's file name.
pub(crate) fn parse_name(name: &str) -> Option<Position> {
    let digits = name.strip_suffix(".seg")?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    if plain { digits.parse().ok().map(Position) } else { None }
}

/// The first positions of all segments in a folder, rising.
pub(crate) fn list<D: Disk>(disk: &D, dir: &Path) -> Result<Vec<Position>, LogError> {
    let names = disk.list(dir).map_err(LogError::io("list", dir))?;
    let mut firsts: Vec<Position> = names.iter().filter_map(|n| parse_name(n)).collect();
    firsts.sort_unstable();
    Ok(firsts)
}

/// Builds the error for a damaged place.
pub(crate) fn corrupt(file: &Path, offset: u64, ordinal: Position, why: impl Into<String>) -> LogError {
    let advice = "Nothing was changed. Keep a copy of the folder; then put this file back from a backup or from the \
                  archive of the lane, or, if neither has it, ask support before cutting the log here: everything from \
                  this group on would be lost, players' wins among it";
    LogError::Corrupt(Box::new(Corrupt {
        file: file.to_owned(),
        offset,
        ordinal,
        why: why.into(),
        advice: advice.to_owned(),
    }))
}

/// What stands at a cursor.
#[derive(Debug)]
pub(crate) enum Found {
    /// A whole group; its bytes are in the buffer.
    Group(GroupHeader),
    /// The end of the file, or zeros where a header would be.
    End,
    /// Something else.
    Defect(Defect),
}

/// Reads one segment file from front to back through a buffer.
pub(crate) struct Cursor<F> {
    pub file: F,
    pub path: PathBuf,
    buf: Vec<u8>,
    /// The bytes of the file in the buffer: `buf[start..end]`, the first of them at `offset` in the file.
    start: usize,
    end: usize,
    offset: u64,
}

impl<F: DiskFile> Cursor<F> {
    /// A cursor at a byte of a file. The buffer of another one may be handed on.
    pub fn new(file: F, path: PathBuf, offset: u64, buf: Vec<u8>) -> Self {
        Cursor { file, path, buf, start: 0, end: 0, offset }
    }

    /// Where in the file it stands.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Gives the buffer back.
    pub fn into_buf(self) -> Vec<u8> {
        self.buf
    }

    /// Forgets what was read ahead: a writer may have written there since.
    pub fn refresh(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// Whether bytes behind the cursor were read earlier and may have changed since.
    pub fn is_stale(&self) -> bool {
        self.start < self.end
    }

    /// Reads the segment's header; the cursor then stands at the first group.
    pub fn segment_header(&mut self) -> io::Result<Result<SegmentHeader, Defect>> {
        self.offset = 0;
        self.refresh();
        let have = self.fill(SEGMENT_HEADER_LEN)?;
        let header = SegmentHeader::decode(&self.buf[self.start..self.start + have]);
        if header.is_ok() {
            self.advance(SEGMENT_HEADER_LEN);
        }
        Ok(header)
    }

    /// Looks at what stands at the cursor, body and all.
    pub fn look(&mut self) -> io::Result<Found> {
        let header = match self.look_header()? {
            Found::Group(header) => header,
            other => return Ok(other),
        };
        if self.fill(header.group_len())? < header.group_len() {
            return Ok(Found::Defect(Defect::Damaged("the group's body is cut short")));
        }
        let body = &self.buf[self.start + GROUP_HEADER_LEN..self.start + header.group_len()];
        Ok(match format::check_body(&header, body) {
            Ok(()) => Found::Group(header),
            Err(defect) => Found::Defect(defect),
        })
    }

    /// Looks at the header at the cursor only.
    pub fn look_header(&mut self) -> io::Result<Found> {
        let have = self.fill(GROUP_HEADER_LEN)?;
        let bytes = &self.buf[self.start..self.start + have.min(GROUP_HEADER_LEN)];
        if bytes.iter().all(|&b| b == 0) {
            return Ok(Found::End);
        }
        // A later version's header may be longer than ours: show as much as is in the buffer.
        let bytes = &self.buf[self.start..self.end];
        Ok(match GroupHeader::decode(bytes) {
            Ok(header) => Found::Group(header),
            Err(defect) => Found::Defect(defect),
        })
    }

    /// The bytes of the group that `look` found.
    pub fn group(&self, header: &GroupHeader) -> &[u8] {
        &self.buf[self.start..self.start + header.group_len()]
    }

    /// Steps over `len` bytes, which may reach behind the buffer.
    pub fn advance(&mut self, len: usize) {
        self.offset += len as u64;
        self.start = (self.start + len).min(self.end);
    }

    /// The bytes that the cursor has just stepped over.
    pub fn before(&self, len: usize) -> &[u8] {
        &self.buf[self.start - len..self.start]
    }

    /// Brings at least `want` bytes into the buffer, or what there is up to the end of the file.
    fn fill(&mut self, want: usize) -> io::Result<usize> {
        if self.end - self.start >= want {
            return Ok(self.end - self.start);
        }
        self.buf.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buf.len() < want.max(READ_BYTES) {
            self.buf.resize(want.max(READ_BYTES), 0);
        }
        self.end += self.file.read_at(&mut self.buf[self.end..], self.offset + self.end as u64)?;
        Ok(self.end)
    }
}

/// A segment at its first group.
pub(crate) type Opened<D> = (Cursor<<D as Disk>::File>, SegmentHeader);

/// Opens a segment and reads its header, checking that it belongs to this log and bears its own name.
/// `Ok(Err(..))` is a damaged header, which the caller judges.
pub(crate) fn open<D: Disk>(
    disk: &D,
    dir: &Path,
    first: Position,
    options: &LogOptions,
    buf: Vec<u8>,
) -> Result<Result<Opened<D>, &'static str>, LogError> {
    let path = dir.join(name(first));
    let file = disk.open(&path, false).map_err(LogError::io("open", &path))?;
    let mut cursor = Cursor::new(file, path, 0, buf);
    let header = match cursor.segment_header().map_err(LogError::io("read", &cursor.path))? {
        Ok(header) => header,
        Err(Defect::Newer(found)) => return Err(newer(&cursor.path, found)),
        Err(Defect::Damaged(why)) => return Ok(Err(why)),
    };
    let wrong = |what, found: u16, expected: u16| LogError::WrongLog {
        path: cursor.path.clone(),
        what,
        found: found.into(),
        expected: expected.into(),
    };
    if header.kind != options.kind.0 {
        return Err(wrong("the kind of log", header.kind, options.kind.0));
    }
    if header.node != options.node {
        return Err(wrong("the node", header.node, options.node));
    }
    if header.first != first {
        return Err(corrupt(
            &cursor.path,
            0,
            first,
            format!("the file's header says group {}", header.first),
        ));
    }
    Ok(Ok((cursor, header)))
}

/// The error for a version that this program doesn't know.
pub(crate) fn newer(path: &Path, found: u16) -> LogError {
    LogError::NewerVersion { path: path.to_owned(), found, supported: FORMAT_VERSION }
}
