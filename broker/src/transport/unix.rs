//! Unix sockets: a file that is ours while we listen, and nobody's afterwards.

use crate::config::FileMode;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A socket that holds its file. Unlike TCP it listens at once: the system has no way to hold the file without.
/// Whoever connects before the broker serves waits in the kernel.
#[derive(Debug)]
pub(crate) struct UnixBound {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a socket. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0); // somebody else may have removed it
    }
}

impl UnixBound {
    /// One handle for each shard, and the file to keep until the end.
    pub(crate) fn listen(self, count: u16) -> io::Result<(Vec<UnixListener>, SocketFile)> {
        self.listener.set_nonblocking(true)?;
        let mut listeners = Vec::with_capacity(usize::from(count));
        for _ in 1..count {
            listeners.push(self.listener.try_clone()?);
        }
        listeners.push(self.listener);
        Ok((listeners, self.file))
    }
}

/// Binds a path and says who may connect.
///
/// # Errors
/// [`ErrorKind::AddrInUse`] when somebody listens there, or when there is a file that is no socket.
pub(crate) fn bind(path: &Path, mode: FileMode) -> io::Result<UnixBound> {
    remove_stale(path)?;
    let listener = UnixListener::bind(path)?;
    let file = SocketFile(path.to_owned());
    fs::set_permissions(path, fs::Permissions::from_mode(mode.bits()))?;
    Ok(UnixBound { listener, file })
}

/// What a crash left behind is a socket that refuses connections.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => return Err(ErrorKind::AddrInUse.into()),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Ok(_) | Err(_) => Err(ErrorKind::AddrInUse.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_socket_that_nobody_listens_on_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mqtt.sock");
        drop(UnixListener::bind(&path).unwrap()); // its file stays, as after a crash
        let bound = bind(&path, FileMode::OWNER_AND_GROUP).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert_eq!(bind(&path, FileMode::OWNER_AND_GROUP).unwrap_err().kind(), ErrorKind::AddrInUse);
        let (listeners, file) = bound.listen(3).unwrap();
        assert_eq!(listeners.len(), 3);
        UnixStream::connect(&path).unwrap();
        drop((listeners, file));
        assert!(!path.exists(), "the file goes with the listener");
        fs::write(&path, b"precious").unwrap();
        assert_eq!(bind(&path, FileMode::OWNER_AND_GROUP).unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
