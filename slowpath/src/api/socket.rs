//! The admin API's Unix socket: made so that only its owner can ever connect, and removed when it is done with.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Longest path of a Unix socket on Linux in bytes (`sun_path` is 108 with its final zero, see unix(7)).
const MAX_PATH: usize = 107;

/// Why the admin socket could not be made. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another daemon has this socket.
    #[error("another carom listens on {0}; stop it, or give this one its own admin socket")]
    InUse(PathBuf),
    /// Something else lies at the path; it is not ours to remove.
    #[error("{0} exists and is not a socket; remove it, or give another path for the admin socket")]
    NotASocket(PathBuf),
    /// The path does not fit a socket address.
    #[error("the admin socket's path {0} is {len} bytes long, at most {MAX_PATH} fit; give a shorter one", len = .0.as_os_str().len())]
    TooLong(PathBuf),
    /// The path names no file in a directory.
    #[error("the admin socket's path {0} names no file; give one like /run/carom/admin.sock")]
    NoName(PathBuf),
    /// The system said no.
    #[error("cannot {what} {path}: {source}{}", permission_mend(.source))]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn permission_mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; run as root, or give a path for the admin socket in a directory you own",
        _ => "",
    }
}

/// A bound admin socket. Dropping it removes the socket from the file system.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the socket, so that only our own is removed.
    identity: (u64, u64),
    /// Held as long as the socket lives: two daemons starting at once cannot both take the path.
    _lock: File,
}

impl AdminSocket {
    /// Binds the socket with mode 0600. Its directory is made when it is missing (0755); a socket nobody listens on is
    /// removed first. A file `PATH.lock` beside it stays behind.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let io = |what, path: &Path| {
            let path = path.to_owned();
            move |source| BindError::Io { what, path, source }
        };
        if path.as_os_str().as_bytes().len() > MAX_PATH {
            return Err(BindError::TooLong(path.to_owned()));
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(BindError::NoName(path.to_owned()));
        };
        let directory = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(io("make the directory", directory))?;

        let mut lock_name = name.to_owned();
        lock_name.push(".lock");
        let lock_path = directory.join(lock_name);
        let lock = File::create(&lock_path).map_err(io("make", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Err(BindError::InUse(path.to_owned())),
            Err(fs::TryLockError::Error(e)) => return Err(io("lock", &lock_path)(e)),
        }
        remove_stale(path)?;

        let listener = bind_private(directory, path)?;
        let metadata = fs::symlink_metadata(path).map_err(io("look at", path))?;
        Ok(AdminSocket { listener, path: path.to_owned(), identity: identity(&metadata), _lock: lock })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A listener for tokio; the socket itself stays with `self`. Fails when no descriptor is left.
    pub fn listener(&self) -> io::Result<UnixListener> {
        let listener = self.listener.try_clone()?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|m| identity(&m) == self.identity) {
            // Nothing is lost when it fails: the next start removes a socket nobody listens on.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// Removes a socket nobody listens on. Anything else at the path is an error.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let io = |what| move |source| BindError::Io { what, path: path.to_owned(), source };
    let metadata = match fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(io("look at"))?,
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(BindError::InUse(path.to_owned())),
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io("remove the stale socket"))
        }
        Err(e) => Err(io("connect to the socket already at")(e)),
    }
}

/// Binds inside a directory only we can enter, sets the mode, and only then moves the socket to its place: at no moment
/// could another user connect, whatever the umask.
fn bind_private(directory: &Path, path: &Path) -> Result<UnixListener, BindError> {
    let private = directory.join(format!(".{}", std::process::id()));
    let io = |what, path: &Path| {
        let path = path.to_owned();
        move |source| BindError::Io { what, path, source }
    };
    // What a killed process with our id may have left.
    let _ = fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private).map_err(io("make the directory", &private))?;
    let inside = private.join("s");
    let bound = (|| {
        let listener = UnixListener::bind(&inside).map_err(io("bind the socket", &inside))?;
        fs::set_permissions(&inside, Permissions::from_mode(0o600)).map_err(io("set the mode of", &inside))?;
        fs::rename(&inside, path).map_err(io("move the socket to", path))?;
        Ok(listener)
    })();
    let _ = fs::remove_dir_all(&private);
    bound
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_socket_is_private_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/carom/admin.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(path.parent().unwrap()) & 0o022, 0, "nobody else may write to the directory");
        UnixStream::connect(&path).unwrap();
        let left: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "socket and lock only: {left:?}");
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        // A listener that goes without removing its file, as after kill -9.
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = AdminSocket::bind(&path).unwrap();
        UnixStream::connect(socket.path()).unwrap();
    }

    #[test]
    fn a_socket_somebody_listens_on_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let other = UnixListener::bind(&path).unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(BindError::InUse(p)) if p == path));
        UnixStream::connect(&path).unwrap();
        other.accept().unwrap();

        let ours = dir.path().join("ours.sock");
        let first = AdminSocket::bind(&ours).unwrap();
        let error = AdminSocket::bind(&ours).unwrap_err();
        assert!(error.to_string().starts_with("another carom listens on "), "{error}");
        UnixStream::connect(first.path()).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(AdminSocket::bind(&path), Err(BindError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn impossible_paths_have_their_own_errors() {
        let dir = tempfile::tempdir().unwrap();
        let long = dir.path().join("x".repeat(120));
        assert!(matches!(AdminSocket::bind(&long), Err(BindError::TooLong(_))));
        assert!(matches!(AdminSocket::bind(Path::new("/")), Err(BindError::NoName(_))));
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(matches!(AdminSocket::bind(&file.join("admin.sock")), Err(BindError::Io { .. })));
    }

    #[test]
    fn of_many_starting_at_once_one_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(UnixListener::bind(&path).unwrap());
        let barrier = Barrier::new(8);
        let bound: Vec<_> = std::thread::scope(|s| {
            let start = || {
                barrier.wait();
                AdminSocket::bind(&path)
            };
            let threads: Vec<_> = (0..8).map(|_| s.spawn(start)).collect();
            threads.into_iter().map(|t| t.join().unwrap()).collect()
        });
        assert_eq!(bound.iter().filter(|b| b.is_ok()).count(), 1, "{bound:?}");
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_successor_s_socket_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        let socket = AdminSocket::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _other = UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
