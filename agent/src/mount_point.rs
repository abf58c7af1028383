//! Paths of the workload's, found without leaving its root: a link in an image may lead anywhere.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

/// The kernel's own limit (MAXSYMLINKS).
const MAX_LINKS: usize = 40;

/// Where `path` lies below `root`, links followed as they lead inside it: the result has none, and what of it
/// is not there has none either. Nothing may change below `root` meanwhile.
pub fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut found: Vec<OsString> = Vec::new();
    let mut pending = reversed(path);
    let mut links = 0;
    while let Some(name) = pending.pop() {
        if name == OsStr::new("..") {
            found.pop();
            continue;
        }
        found.push(name);
        let candidate = join(root, &found);
        match fs::read_link(&candidate) {
            Ok(target) => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                found.pop();
                if target.is_absolute() {
                    found.clear();
                }
                pending.extend(reversed(&target));
            }
            // Not a link, or nothing at all.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT | libc::ENOTDIR)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(join(root, &found))
}

fn join(root: &Path, names: &[OsString]) -> PathBuf {
    let mut path = root.to_path_buf();
    path.extend(names);
    path
}

/// The names in `path`, last first; the root and single dots are none.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_os_string()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.rev().collect()
}

/// Makes sure that something can be mounted at `path`, which has been resolved: a directory, or a file.
pub fn create_mount_point(path: &Path, is_directory: bool) -> io::Result<()> {
    let mut directories = DirBuilder::new();
    directories.recursive(true).mode(0o755);
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() == is_directory => Ok(()),
        Ok(_) if is_directory => Err(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory")),
        Ok(_) => Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Err(_) if is_directory => directories.create(path),
        Err(_) => {
            if let Some(parent) = path.parent() {
                directories.create(parent)?;
            }
            OpenOptions::new().write(true).create_new(true).mode(0o755).open(path).map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_lead_to_where_they_do_in_the_root() {
        let scratch = Scratch::new("links");
        let root = scratch.path();
        fs::create_dir_all(root.join("var/lib")).unwrap();
        symlink("/var/lib", root.join("absolute")).unwrap();
        symlink("../../../../etc", root.join("var/up")).unwrap();
        symlink("nowhere/at/all", root.join("dangling")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for (path, expected) in [
            ("/var/lib", "var/lib"),
            ("/absolute/x", "var/lib/x"),
            ("/var/up/passwd", "etc/passwd"),
            ("/dangling/y", "nowhere/at/all/y"),
            ("/../../tmp/./z", "tmp/z"),
            ("/", ""),
        ] {
            assert_eq!(resolve(root, Path::new(path)).unwrap(), root.join(expected), "{path}");
        }
        let error = resolve(root, Path::new("/loop/x")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
    }

    #[test]
    fn a_mount_point_is_made_or_must_fit() {
        let scratch = Scratch::new("points");
        let root = scratch.path();
        create_mount_point(&root.join("a/b"), true).unwrap();
        create_mount_point(&root.join("a/b"), true).unwrap();
        create_mount_point(&root.join("c/file"), false).unwrap();
        assert!(root.join("a/b").is_dir() && root.join("c/file").is_file());
        let error = create_mount_point(&root.join("c/file"), true).unwrap_err();
        assert_eq!(error.to_string(), "it is not a directory");
        let error = create_mount_point(&root.join("a/b"), false).unwrap_err();
        assert_eq!(error.to_string(), "it is a directory");
        create_mount_point(&root.join("c/file/below"), true).unwrap_err();
    }
}
