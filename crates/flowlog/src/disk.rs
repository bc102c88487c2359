//! What the log asks of a disk, and the real one.
//!
//! The log is written against these two traits so that tests and the simulation can put a disk under it that tears,
//! loses and refuses; nothing else in the crate touches the file system.
//! Paths are plain; files are addressed by offset, so one handle may be shared by a writer and readers.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// A file system, as far as an append-only log needs one.
///
/// Durability: what `write_at`, `truncate` and `preallocate` did is durable after [`DiskFile::sync_data`] of that file;
/// what `create`, `remove` and `rename` did is durable after [`Disk::sync_dir`] of the folder. `rename` is atomic.
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Makes the folder and its parents, durably; no error when it is there.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// The names of the files in a folder, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a new file for reading and writing; an existing one is emptied.
    fn create(&self, path: &Path) -> io::Result<Self::File>;
    /// Opens a file that exists; for writing too if `write`.
    fn open(&self, path: &Path, write: bool) -> io::Result<Self::File>;
    /// Makes the entries of a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Gives a file another name in the same folder, replacing what has that name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Bytes that an ordinary process can still take on the file system of `dir`.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;
}

/// An open file of a [`Disk`].
pub trait DiskFile: Send + Sync + 'static {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// True when the length is 0.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads at `offset` as much as there is, up to the length of `buf`; fewer bytes only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf` at `offset`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    /// Makes content and length durable.
    fn sync_data(&self) -> io::Result<()>;
    /// Cuts or (with zeros) extends the file to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Takes room for `len` bytes from `offset` on, so that writing there can't fail for want of room.
    /// The file is extended; what was never written reads as zeros.
    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()>;
}

/// True for the errors that mean: no room left on the disk, or the quota is used up.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    type File = RealFile;

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(parent) = parent {
            self.create_dir_all(parent)?;
        }
        match std::fs::create_dir(dir) {
            Err(e) if e.kind() != ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        self.sync_dir(parent.unwrap_or(Path::new(".")))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            // A name that isn't UTF-8 can't be one of ours.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, path: &Path) -> io::Result<RealFile> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        Ok(RealFile(file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<RealFile> {
        OpenOptions::new().read(true).write(write).open(path).map(RealFile)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

/// A file of [`RealDisk`].
#[derive(Debug)]
pub struct RealFile(File);

/// Zeros are written in pieces of this size where the file system can't take room any other way.
const ZERO_CHUNK_BYTES: usize = 256 * 1024;

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        // fdatasync; it includes the length of the file, which is all of the metadata that reading needs.
        self.0.sync_data()
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        use rustix::io::Errno;
        loop {
            match fallocate(&self.0, FallocateFlags::empty(), offset, len) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return self.write_zeros(offset, len),
                Err(e) => return Err(e.into()),
            }
        }
    }
}

impl RealFile {
    fn write_zeros(&self, offset: u64, len: u64) -> io::Result<()> {
        let zeros = vec![0u8; ZERO_CHUNK_BYTES];
        let end = offset + len;
        let mut at = offset.max(self.len()?);
        while at < end {
            let n = zeros.len().min((end - at) as usize);
            self.0.write_all_at(&zeros[..n], at)?;
            at += n as u64;
        }
        Ok(())
    }
}
