//! Who the workload runs as: the image's USER looked up in the image's own passwd and group files.
//! The rules, down to the error texts, are those of Docker:
//! <https://github.com/moby/sys/blob/main/user/user.go> (`GetExecUser`).

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::error::StartError;
use crate::mounts::ROOT;

/// Larger files are refused: they are read into memory that the workload cannot use.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// What is read for names that are only shown.
const MAX_NAMES_BYTES: u64 = 1 << 20;
const MAX_ID: i64 = (1 << 31) - 1;

/// A user as the kernel wants it.
#[derive(Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups; the primary one is always among them (CVE-2022-36109).
    pub groups: Vec<u32>,
    pub home: String,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: i64,
    gid: i64,
    home: &'a str,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: i64,
    members: &'a str,
}

/// Looks `spec` up in `/etc/passwd` and `/etc/group` below the current root.
pub fn look_up(spec: &str) -> Result<Identity, StartError> {
    resolve(
        spec,
        read_optional(Path::new("/etc/passwd"))?.as_deref(),
        read_optional(Path::new("/etc/group"))?.as_deref(),
    )
}

/// The ids of `spec` by the files below `root`, links in it leading nowhere else.
pub fn ids_below(root: &str, spec: &str) -> Option<(u32, u32)> {
    let root = File::open(root).ok()?;
    let read = |path: &str| {
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let file = File::from(openat2(&root, path, how).ok()?);
        read_whole(file, Path::new(path)).ok()
    };
    let identity = resolve(spec, read("etc/passwd").as_deref(), read("etc/group").as_deref()).ok()?;
    Some((identity.uid, identity.gid))
}

/// `spec` is `""`, `"name"`, `"uid"`, `"name:group"`, `"uid:gid"` or a mixture. A missing file is like an
/// empty one.
pub fn resolve(spec: &str, passwd: Option<&str>, group: Option<&str>) -> Result<Identity, StartError> {
    let (user_part, group_part) = spec.split_once(':').unwrap_or((spec, ""));
    // Docker reads up to the next colon and ignores what follows.
    let group_part = group_part.split(':').next().unwrap_or("");
    let numeric_uid = parse_id(user_part);
    let numeric_gid = parse_id(group_part);

    let entry = passwd_entries(passwd.unwrap_or("")).find(|entry| match numeric_uid {
        _ if user_part.is_empty() => entry.uid == 0,
        Some(uid) => entry.uid == uid,
        None => entry.name == user_part,
    });
    let (uid, mut gid, home, name) = match (&entry, numeric_uid) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.home, entry.name),
        (None, _) if user_part.is_empty() => (0, 0, "/", ""),
        (None, Some(uid)) => (uid, 0, "/", ""),
        (None, None) => {
            let reason = "no matching entries in passwd file";
            return Err(StartError::refused(format!("unable to find user {user_part}: {reason}")));
        }
    };

    let mut groups = Vec::new();
    let mut entries = group_entries(group.unwrap_or(""));
    if !group_part.is_empty() {
        let matched = entries.find(|entry| match numeric_gid {
            Some(gid) => entry.gid == gid,
            None => entry.name == group_part,
        });
        gid = match (matched, numeric_gid) {
            (Some(entry), _) => entry.gid,
            (None, Some(gid)) => gid,
            (None, None) => {
                let reason = "no matching entries in group file";
                return Err(StartError::refused(format!("unable to find group {group_part}: {reason}")));
            }
        };
    } else if !name.is_empty() {
        groups = entries
            .filter(|entry| entry.members.split(',').any(|member| member == name))
            .map(|entry| to_id(entry.gid))
            .collect::<Result<_, _>>()?;
    }
    let gid = to_id(gid)?;
    groups.insert(0, gid);
    Ok(Identity { uid: to_id(uid)?, gid, groups, home: home.to_owned() })
}

/// Groups that a process is in besides those of its user, by name or number, as Docker's `--group-add` has them.
/// <https://github.com/moby/sys/blob/main/user/user.go> (`GetAdditionalGroups`)
pub fn add_groups(identity: &mut Identity, names: &[String]) -> Result<(), StartError> {
    if names.is_empty() {
        return Ok(());
    }
    let text = read_optional(Path::new("/etc/group"))?.unwrap_or_default();
    for name in names {
        let gid = find_group(name, &text)?;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    Ok(())
}

fn find_group(name: &str, text: &str) -> Result<u32, StartError> {
    let numeric = parse_id(name);
    let found = group_entries(text).find(|entry| entry.name == name || Some(entry.gid) == numeric);
    match (found, numeric) {
        (Some(entry), _) => to_id(entry.gid),
        (None, Some(gid)) => to_id(gid),
        (None, None) => Err(StartError::refused(format!("Unable to find group {name}"))),
    }
}

/// Names of users by number, from the workload's passwd as the agent sees it. None when it cannot be read.
pub fn names() -> HashMap<u32, String> {
    let text = read_below_root("etc/passwd").unwrap_or_default();
    let mut names = HashMap::new();
    for entry in passwd_entries(&text) {
        if let Ok(uid) = to_id(entry.uid) {
            names.entry(uid).or_insert_with(|| entry.name.to_owned());
        }
    }
    names
}

/// Reads a file of the workload's: no link that it has made leads out of its root.
fn read_below_root(path: &str) -> Option<String> {
    let root = File::open(ROOT).ok()?;
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(&root, path, how).ok()?);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MAX_NAMES_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

fn to_id(value: i64) -> Result<u32, StartError> {
    if (0..=MAX_ID).contains(&value) {
        return u32::try_from(value).map_err(|error| StartError::refused(error.to_string()));
    }
    Err(StartError::refused(format!("uids and gids must be in range 0-{MAX_ID}")))
}

/// A number as Go's `Atoi` reads it.
fn parse_id(text: &str) -> Option<i64> {
    text.parse().ok()
}

/// Lines without the blank ones. Fields that are missing are empty, numbers that cannot be read are 0: so
/// Docker has it.
fn passwd_entries(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(text).map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().unwrap_or("");
        PasswdEntry {
            name,
            uid: fields.nth(1).and_then(parse_id).unwrap_or(0),
            gid: fields.next().and_then(parse_id).unwrap_or(0),
            home: fields.nth(1).unwrap_or(""),
        }
    })
}

fn group_entries(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(text).map(|line| {
        let mut fields = line.split(':');
        GroupEntry {
            name: fields.next().unwrap_or(""),
            gid: fields.nth(1).and_then(parse_id).unwrap_or(0),
            members: fields.next().unwrap_or(""),
        }
    })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty())
}

fn read_optional(path: &Path) -> Result<Option<String>, StartError> {
    let failed = |error: io::Error| StartError::refused(format!("cannot read {}: {error}", path.display()));
    // Without O_NONBLOCK, opening a FIFO of the image would never end.
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    };
    read_whole(file, path).map(Some)
}

fn read_whole(file: File, path: &Path) -> Result<String, StartError> {
    let failed = |error: io::Error| StartError::refused(format!("cannot read {}: {error}", path.display()));
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(StartError::refused(format!("{} is not a regular file", path.display())));
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(StartError::refused(format!("{} is larger than 16 MiB", path.display())));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\n  daemon:x:1:1::/usr/sbin:/none\n\
        app:x:1000:1001:App:/home/app:/bin/sh\nsecond:x:1000:7::/second:\nbroken\nbig:x:4294967296:0::/:\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\ndocker:x:998:app\nempty:x:5:\nroot2:x:11:root\n";

    #[test]
    fn users_are_found_as_docker_finds_them() {
        for (spec, uid, gid, groups, home) in [
            ("", 0, 0, vec![0, 10, 11], "/root"),
            ("root", 0, 0, vec![0, 10, 11], "/root"),
            ("0", 0, 0, vec![0, 10, 11], "/root"),
            ("app", 1000, 1001, vec![1001, 10, 998], "/home/app"),
            ("1000", 1000, 1001, vec![1001, 10, 998], "/home/app"),
            ("app:", 1000, 1001, vec![1001, 10, 998], "/home/app"),
            ("app:docker", 1000, 998, vec![998], "/home/app"),
            ("app:4242", 1000, 4242, vec![4242], "/home/app"),
            ("4711", 4711, 0, vec![0], "/"),
            ("4711:5", 4711, 5, vec![5], "/"),
            ("4711:empty", 4711, 5, vec![5], "/"),
            (":docker", 0, 998, vec![998], "/root"),
            ("daemon:wheel:ignored", 1, 10, vec![10], "/usr/sbin"),
            ("2147483647", 2_147_483_647, 0, vec![0], "/"),
        ] {
            let identity = resolve(spec, Some(PASSWD), Some(GROUP)).unwrap();
            let home = home.to_owned();
            assert_eq!(identity, Identity { uid, gid, groups, home }, "{spec:?}");
        }
    }

    #[test]
    fn unknown_names_and_impossible_numbers_are_refused() {
        for (spec, message) in [
            ("nobody", "unable to find user nobody: no matching entries in passwd file"),
            ("app:nogroup", "unable to find group nogroup: no matching entries in group file"),
            ("2147483648", "uids and gids must be in range 0-2147483647"),
            ("-1", "uids and gids must be in range 0-2147483647"),
            ("1:-1", "uids and gids must be in range 0-2147483647"),
            ("big", "uids and gids must be in range 0-2147483647"),
        ] {
            let error = resolve(spec, Some(PASSWD), Some(GROUP)).unwrap_err();
            assert_eq!((error.code, error.message.as_str()), (125, message), "{spec:?}");
        }
    }

    #[test]
    fn further_groups_have_names_or_numbers() {
        assert_eq!(find_group("docker", GROUP).unwrap(), 998);
        assert_eq!(find_group("998", GROUP).unwrap(), 998);
        assert_eq!(find_group("4242", GROUP).unwrap(), 4242);
        assert_eq!(find_group("nogroup", GROUP).unwrap_err().message, "Unable to find group nogroup");
        assert_eq!(find_group("-1", GROUP).unwrap_err().code, 125);
    }

    #[test]
    fn an_image_without_passwd_still_has_numbers() {
        let root = resolve("", None, None).unwrap();
        assert_eq!((root.uid, root.gid, root.groups, root.home.as_str()), (0, 0, vec![0], "/"));
        assert_eq!(resolve("5:6", None, None).unwrap().groups, [6]);
        resolve("root", None, None).unwrap_err();
        resolve("0:root", None, None).unwrap_err();
    }
}
