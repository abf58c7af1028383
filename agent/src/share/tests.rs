//! What a guest can and cannot do, and what happens when host and guest work against each other.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::io::Errno;

use crate::abi::{ROOT_ID, op};
use crate::dispatch;
use crate::hello::{Ids, MAX_MESSAGE_BYTES};
use crate::nodes::{self, Key, Limits, Nodes};
use crate::reply::Reply;
use crate::serve::serve;
use crate::share::{Opened, divide_descriptors};
use crate::test_share::{
    Scratch, WORKLOAD, ask, ask_raw, create, long, name, number, open, owner, read, request, share, walk,
    write,
};

fn exchange(one: &Path, other: &Path) {
    let flags = rustix::fs::RenameFlags::EXCHANGE;
    rustix::fs::renameat_with(rustix::fs::CWD, one, rustix::fs::CWD, other, flags).unwrap();
}

#[test]
fn files_are_made_written_read_and_removed() {
    let scratch = Scratch::new();
    let share = share(&scratch.shared(), false);
    let (_, handle) = create(&share, WORKLOAD, ROOT_ID, "a").unwrap();
    assert_eq!(number(&write(&share, handle, b"hello").unwrap(), 0), 5);
    assert_eq!(read(&share, handle).unwrap(), b"hello");
    assert_eq!(fs::read(scratch.shared().join("a")).unwrap(), b"hello");
    ask(&share, op::RELEASE, ROOT_ID, &[&handle.to_le_bytes()[..], &[0; 16]].concat()).unwrap();
    assert_eq!(read(&share, handle), Err(libc::EBADF));
    ask(&share, op::UNLINK, ROOT_ID, &name("a")).unwrap();
    assert_eq!(walk(&share, "a"), Err(libc::ENOENT));
}

#[test]
fn names_that_are_no_names_are_refused() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("secret"), "x").unwrap();
    let share = share(&scratch.shared(), false);
    for bad in ["..", ".", "", "../secret", "/etc/passwd", "a/b"] {
        assert_eq!(ask(&share, op::LOOKUP, ROOT_ID, &name(bad)), Err(libc::EINVAL), "{bad}");
        assert_eq!(create(&share, WORKLOAD, ROOT_ID, bad), Err(libc::EINVAL), "{bad}");
        for opcode in [op::UNLINK, op::RMDIR] {
            assert_eq!(ask(&share, opcode, ROOT_ID, &name(bad)), Err(libc::EINVAL), "{bad}");
        }
        let rename = [&ROOT_ID.to_le_bytes()[..], &name("a"), &name(bad)].concat();
        assert_eq!(ask(&share, op::RENAME, ROOT_ID, &rename), Err(libc::EINVAL), "{bad}");
    }
    assert_eq!(ask(&share, op::LOOKUP, ROOT_ID, b"no end"), Err(libc::EINVAL));
}

#[test]
fn links_are_the_guests_to_follow() {
    let scratch = Scratch::new();
    fs::write(scratch.0.join("secret"), "x").unwrap();
    symlink("../secret", scratch.shared().join("up")).unwrap();
    symlink("..", scratch.shared().join("dir")).unwrap();
    let share = share(&scratch.shared(), false);
    let link = walk(&share, "up").unwrap();
    assert_eq!(ask(&share, op::READLINK, link, &[]).unwrap(), b"../secret");
    assert_eq!(open(&share, link, libc::O_RDONLY), Err(libc::ENXIO));
    assert_eq!(walk(&share, "dir/secret"), Err(libc::ENOTDIR));
    // O_CREAT on a link does not follow it either.
    assert_eq!(create(&share, WORKLOAD, ROOT_ID, "up"), Err(libc::ENXIO));
    // A mode set through a link would be the target's.
    let setattr = [&1_u32.to_le_bytes()[..], &[0; 64], &0o777_u32.to_le_bytes(), &[0; 16]].concat();
    ask(&share, op::SETATTR, link, &setattr).unwrap_err();
    assert_eq!(fs::metadata(scratch.0.join("secret")).unwrap().mode() & 0o777, 0o644);
}

#[test]
fn nothing_but_files_and_directories_is_opened_or_made() {
    let scratch = Scratch::new();
    let share = share(&scratch.shared(), false);
    let make = |mode: u32, file: &str| {
        ask(&share, op::MKNOD, ROOT_ID, &[&mode.to_le_bytes()[..], &[0; 12], &name(file)].concat())
    };
    for mode in [libc::S_IFCHR, libc::S_IFBLK, libc::S_IFDIR, libc::S_IFLNK] {
        assert_eq!(make(mode | 0o666, "device"), Err(libc::EPERM), "{mode:o}");
    }
    let fifo = long(&make(libc::S_IFIFO | 0o600, "fifo").unwrap(), 0);
    assert!(fs::metadata(scratch.shared().join("fifo")).unwrap().file_type().is_fifo());
    // Opening it on the host would block for ever.
    assert_eq!(open(&share, fifo, libc::O_RDONLY), Err(libc::ENXIO));
    assert_eq!(open(&share, ROOT_ID, libc::O_RDONLY), Err(libc::ENXIO));
}

#[test]
fn a_read_only_share_changes_nothing() {
    let scratch = Scratch::new();
    let file = scratch.shared().join("a");
    fs::write(&file, "x").unwrap();
    let share = share(&scratch.shared(), true);
    let node = walk(&share, "a").unwrap();
    for opcode in 0..64 {
        if matches!(opcode, op::FORGET | op::BATCH_FORGET | op::INTERRUPT) {
            continue;
        }
        for flags in [libc::O_RDWR, libc::O_WRONLY, libc::O_RDONLY | libc::O_TRUNC] {
            let body = [&flags.to_le_bytes()[..], &[0; 36], &name("b"), &name("c")].concat();
            let _ = ask(&share, opcode, node, &body);
            let _ = ask(&share, opcode, ROOT_ID, &body);
        }
    }
    assert_eq!(open(&share, node, libc::O_WRONLY), Err(libc::EROFS));
    assert_eq!(open(&share, node, libc::O_RDONLY | libc::O_TRUNC), Err(libc::EROFS));
    assert_eq!(create(&share, WORKLOAD, ROOT_ID, "b"), Err(libc::EROFS));
    assert_eq!(fs::read_dir(scratch.shared()).unwrap().count(), 1);
    assert_eq!(fs::read(file).unwrap(), b"x");
    let handle = open(&share, node, libc::O_RDONLY).unwrap();
    assert_eq!(write(&share, handle, b"y"), Err(libc::EROFS));
}

#[test]
fn a_single_file_is_a_root_of_its_own() {
    let scratch = Scratch::new();
    let file = scratch.shared().join("only");
    fs::write(&file, "1").unwrap();
    fs::write(scratch.shared().join("other"), "2").unwrap();
    let share = share(&file, false);
    let handle = open(&share, ROOT_ID, libc::O_RDWR).unwrap();
    write(&share, handle, b"3").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"3");
    assert_eq!(walk(&share, "other"), Err(libc::ENOTDIR));
    assert_eq!(ask(&share, op::OPENDIR, ROOT_ID, &[0; 8]), Err(libc::ENOTDIR));
}

#[test]
fn owners_are_mapped_and_what_is_given_is_kept() {
    let scratch = Scratch::new();
    let share = share(&scratch.shared(), false);
    assert_eq!(owner(&share, ROOT_ID), WORKLOAD);
    let other = Ids { uid: 7, gid: 8 };
    let (node, _) = create(&share, other, ROOT_ID, "theirs").unwrap();
    let metadata = fs::metadata(scratch.shared().join("theirs")).unwrap();
    assert_eq!(metadata.uid(), rustix::process::geteuid().as_raw());
    if owner(&share, node) == WORKLOAD {
        return; // this filesystem has no attributes of users
    }
    assert_eq!(owner(&share, node), other);
    let chown = |uid: u32, gid: u32| {
        let body = [&6_u32.to_le_bytes()[..], &[0; 72], &uid.to_le_bytes(), &gid.to_le_bytes(), &[0; 4]];
        ask(&share, op::SETATTR, node, &body.concat()).unwrap();
        owner(&share, node)
    };
    assert_eq!(chown(9, 10), Ids { uid: 9, gid: 10 });
    // Set-id bits do not survive a new owner.
    fs::set_permissions(scratch.shared().join("theirs"), fs::Permissions::from_mode(0o6755)).unwrap();
    chown(11, 10);
    assert_eq!(fs::metadata(scratch.shared().join("theirs")).unwrap().mode() & 0o7777, 0o755);
    // The guest neither sees nor sets where it is kept.
    let attribute = name("user.firectl.owner");
    let get = [&64_u32.to_le_bytes()[..], &[0; 4], &attribute].concat();
    assert_eq!(ask(&share, op::GETXATTR, node, &get), Err(libc::ENODATA));
    let set = [&3_u32.to_le_bytes()[..], &[0; 4], &attribute, b"0:0"].concat();
    assert_eq!(ask(&share, op::SETXATTR, node, &set), Err(libc::EPERM));
    assert_eq!(ask(&share, op::LISTXATTR, node, &[0; 8]).unwrap(), [0; 8]);
    assert_eq!(chown(WORKLOAD.uid, WORKLOAD.gid), WORKLOAD);
}

#[test]
fn nodes_and_handles_never_given_are_refused() {
    let scratch = Scratch::new();
    let share = share(&scratch.shared(), false);
    for node in [0, 2, 999, u64::MAX] {
        assert_eq!(ask(&share, op::GETATTR, node, &[0; 16]), Err(libc::ESTALE));
        assert_eq!(ask(&share, op::LOOKUP, node, &name("a")), Err(libc::ESTALE));
        assert_eq!(open(&share, node, libc::O_RDONLY), Err(libc::ESTALE));
        assert_eq!(read(&share, node), Err(libc::EBADF));
    }
    let mut reply = Reply::new();
    for body in [vec![0xff; 16], [&u32::MAX.to_le_bytes()[..], &[0; 4], &[1; 16]].concat()] {
        for opcode in [op::FORGET, op::BATCH_FORGET] {
            assert!(dispatch::answer(&share, &request(opcode, 1, &body), &mut reply).is_none());
        }
    }
    ask(&share, op::GETATTR, ROOT_ID, &[0; 16]).unwrap();
}

#[test]
fn what_is_forgotten_is_gone() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.shared().join("a/b")).unwrap();
    fs::write(scratch.shared().join("a/b/c"), "").unwrap();
    let share = share(&scratch.shared(), false);
    let c = walk(&share, "a/b/c").unwrap();
    let b = walk(&share, "a/b").unwrap();
    let a = walk(&share, "a").unwrap();
    assert_eq!(share.nodes.counts(), (4, 4));
    // A parent stays as long as a child may have to be found below it.
    share.nodes.forget(a, u64::MAX);
    share.nodes.forget(b, 2);
    assert_eq!(share.nodes.counts(), (4, 4));
    share.nodes.forget(c, 1);
    assert_eq!(share.nodes.counts(), (1, 1));
    assert_eq!(ask(&share, op::GETATTR, c, &[0; 16]), Err(libc::ESTALE));
    share.nodes.forget(ROOT_ID, u64::MAX);
    ask(&share, op::GETATTR, ROOT_ID, &[0; 16]).unwrap();
}

fn nodes_of(scratch: &Scratch, limits: Limits) -> Nodes {
    let root = nodes::open_path(&fs::File::open(&scratch.0).unwrap().into(), c"shared").unwrap();
    let stat = nodes::stat(&root).unwrap();
    Nodes::new(root, &stat, limits)
}

fn try_enter(table: &Nodes, parent: u64, file: &str) -> Result<u64, Errno> {
    let file = std::ffi::CString::new(file).unwrap();
    let fd = nodes::open_path(&table.get(parent)?.fd, &file)?;
    let stat = nodes::stat(&fd)?;
    table.enter(fd, &stat, (parent, &file))
}

#[test]
fn descriptors_are_bounded_and_closed_nodes_found_again() {
    let scratch = Scratch::new();
    let table = nodes_of(&scratch, Limits::new(8));
    let enter = |parent: u64, file: &str| try_enter(&table, parent, file).unwrap();
    fs::create_dir_all(scratch.shared().join("deep/er")).unwrap();
    let deep = enter(ROOT_ID, "deep");
    let deeper = enter(deep, "er");
    let ids: Vec<u64> = (0..100)
        .map(|index| {
            let file = format!("file{index}");
            fs::write(scratch.shared().join("deep/er").join(&file), "").unwrap();
            enter(deeper, &file)
        })
        .collect();
    assert_eq!(table.counts().0, 103);
    assert!(table.counts().1 <= 9, "{:?}", table.counts());
    for id in &ids {
        table.get(*id).unwrap();
    }
    // The host moves a directory: what is below it is found through it all the same.
    fs::rename(scratch.shared().join("deep/er"), scratch.shared().join("moved")).unwrap();
    let moved = enter(ROOT_ID, "moved");
    assert_eq!(moved, deeper);
    for id in &ids {
        table.get(*id).unwrap();
    }
    // Another file under the same name is another node.
    fs::remove_file(scratch.shared().join("moved/file0")).unwrap();
    fs::write(scratch.shared().join("moved/file0"), "").unwrap();
    for id in &ids[1..] {
        table.get(*id).unwrap();
    }
    table.get(ids[0]).unwrap_err();
    assert_ne!(enter(moved, "file0"), ids[0]);
}

#[test]
fn what_is_remembered_is_bounded_and_comes_back_under_its_number() {
    let scratch = Scratch::new();
    let table = nodes_of(&scratch, Limits { nodes: 40, ..Limits::new(1000) });
    fs::create_dir_all(scratch.shared().join("dir/kept")).unwrap();
    let dir = try_enter(&table, ROOT_ID, "dir").unwrap();
    let kept = try_enter(&table, dir, "kept").unwrap();
    let mut ids = Vec::new();
    for index in 0..200 {
        let file = format!("file{index}");
        fs::write(scratch.shared().join("dir").join(&file), "").unwrap();
        ids.push(try_enter(&table, dir, &file).unwrap());
        if index == 0 {
            table.pin(ids[0], &table.get(ids[0]).unwrap());
        }
        assert!(table.counts().0 <= 40);
        // What was told of last can be asked about.
        table.get(ids[index]).unwrap();
    }
    // What is open stays, and so do directories as long as there are files to drop.
    for id in [ids[0], dir, kept] {
        table.get(id).unwrap();
    }
    let dropped: Vec<usize> = (0..200).filter(|&index| table.get(ids[index]).is_err()).collect();
    assert!(dropped.len() >= 160, "{}", dropped.len());
    for index in dropped {
        assert_eq!(table.get(ids[index]).unwrap_err(), Errno::STALE);
        // The guest's kernel forgets what it had, whatever has become of it here.
        table.forget(ids[index], 1);
        assert_eq!(try_enter(&table, dir, &format!("file{index}")), Ok(ids[index]));
    }
}

#[test]
fn files_that_are_used_are_remembered_rather_than_others() {
    let scratch = Scratch::new();
    let table = nodes_of(&scratch, Limits { nodes: 40, ..Limits::new(1000) });
    let enter = |file: &str| {
        fs::write(scratch.shared().join(file), "").unwrap();
        try_enter(&table, ROOT_ID, file).unwrap()
    };
    // Room is made for the first time among files that are all new: any may go.
    for index in 0..41 {
        enter(&format!("old{index}"));
    }
    let used = enter("used");
    let new: Vec<u64> = (0..15)
        .map(|index| {
            table.get(used).unwrap();
            enter(&format!("new{index}"))
        })
        .collect();
    for id in [&[used], &new[..]].concat() {
        table.get(id).unwrap();
    }
}

#[test]
fn more_files_than_can_be_remembered_cannot_be_open() {
    let scratch = Scratch::new();
    let table = nodes_of(&scratch, Limits { nodes: 6, ..Limits::new(1000) });
    let enter = |file: &str| {
        fs::write(scratch.shared().join(file), "").unwrap();
        try_enter(&table, ROOT_ID, file)
    };
    let open = ["a", "b", "c", "d", "e"].map(|file| {
        let id = enter(file).unwrap();
        table.pin(id, &table.get(id).unwrap());
        id
    });
    assert_eq!(enter("f"), Err(Errno::NFILE));
    assert_eq!(table.counts(), (6, 6));
    table.unpin(open[0]);
    enter("f").unwrap();
    assert_eq!(table.get(open[0]).unwrap_err(), Errno::STALE);
    table.get(open[1]).unwrap();
}

#[test]
fn forgetting_and_asking_again_leaves_nothing() {
    let scratch = Scratch::new();
    let table = nodes_of(&scratch, Limits::new(1000));
    fs::write(scratch.shared().join("file"), "").unwrap();
    for _ in 0..5000 {
        let id = try_enter(&table, ROOT_ID, "file").unwrap();
        table.forget(id, 1);
    }
    assert_eq!(table.counts(), (1, 1));
    assert!(table.queued() < 1100, "{}", table.queued());
}

/// Whatever the host's limit is, handles and nodes together stay within it.
#[test]
fn descriptors_are_divided_within_the_limit() {
    for available in [1024, 4096, 200_000, 1 << 20, 1 << 30, usize::MAX] {
        let (paths, handles) = divide_descriptors(available);
        assert!(paths <= 64 * 1024 && handles <= 64 * 1024, "{available}: {paths}, {handles}");
        assert!(paths + 2 * handles <= available, "{available}: {paths}, {handles}");
        assert!(paths >= 32 && handles >= 16, "{available}: {paths}, {handles}");
    }
}

#[test]
fn a_path_that_has_become_a_link_is_not_shared() {
    let scratch = Scratch::new();
    let shared = scratch.shared();
    fs::create_dir_all(shared.join("project/data")).unwrap();
    fs::create_dir_all(scratch.0.join("outside/data")).unwrap();
    fs::write(shared.join("file"), "public").unwrap();
    fs::write(scratch.0.join("outside/file"), "secret").unwrap();
    Opened::new(&shared.join("project/data")).unwrap();
    Opened::new(&shared.join("file")).unwrap();
    let refused = |path: &str, link: &str| {
        let message = Opened::new(&shared.join(path)).unwrap_err();
        let told =
            format!("{} has become a symbolic link since the VM was made", shared.join(link).display());
        assert!(message.contains(&told), "{message}");
    };
    // As a guest does it that shares the directory above.
    for (name, target) in [("project", "../outside"), ("file", "../outside/file")] {
        fs::rename(shared.join(name), shared.join(format!("{name}-before"))).unwrap();
        symlink(target, shared.join(name)).unwrap();
    }
    refused("project/data", "project");
    refused("file", "file");
    symlink(scratch.0.join("outside"), shared.join("project-before/link")).unwrap();
    refused("project-before/link", "project-before/link");
    // What has moved is what it was.
    Opened::new(&shared.join("project-before/data")).unwrap();
    for (path, message) in [("project-before/..", "must have no .."), ("gone/data", "gone: No such file")] {
        let told = Opened::new(&shared.join(path)).unwrap_err();
        assert!(told.contains(message), "{told}");
    }
}

/// A guest swaps the directory for a link as fast as it can while the share begins.
#[test]
fn a_race_with_a_guest_shares_nothing_else() {
    let scratch = Scratch::new();
    let shared = scratch.shared();
    fs::create_dir(scratch.0.join("outside")).unwrap();
    fs::create_dir(shared.join("data")).unwrap();
    symlink("../outside", shared.join("link")).unwrap();
    let wanted = Key::of(&Opened::new(&shared.join("data")).unwrap().stat);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                exchange(&shared.join("data"), &shared.join("link"));
            }
        });
        let keys: Vec<Option<Key>> = (0..5000)
            .map(|_| Opened::new(&shared.join("data")).ok().map(|what| Key::of(&what.stat)))
            .collect();
        // Nothing may panic before: the other thread would go on for ever.
        stop.store(true, Ordering::Relaxed);
        assert!(keys.iter().flatten().all(|key| *key == wanted));
        assert!(keys.contains(&None) && keys.contains(&Some(wanted)), "the race was never won");
    });
}

#[test]
fn programs_of_the_guest_get_nobodys_rights() {
    let scratch = Scratch::new();
    let share = share(&scratch.shared(), false);
    let mode = |file: &str| fs::metadata(scratch.shared().join(file)).unwrap().mode() & 0o7777;
    let flags = (libc::O_RDWR | libc::O_CREAT).to_le_bytes();
    let body = [&flags[..], &0o6755_u32.to_le_bytes(), &[0; 8], &name("created")].concat();
    let handle = long(&ask(&share, op::CREATE, ROOT_ID, &body).unwrap(), 128);
    assert_eq!(mode("created"), 0o755);
    let body = [&(libc::S_IFREG | 0o6755).to_le_bytes()[..], &[0; 12], &name("node")].concat();
    let node = long(&ask(&share, op::MKNOD, ROOT_ID, &body).unwrap(), 0);
    assert_eq!(mode("node"), 0o755);
    let chmod = |node: u64| {
        let body = [&1_u32.to_le_bytes()[..], &[0; 64], &0o7711_u32.to_le_bytes(), &[0; 16]].concat();
        let attributes = ask(&share, op::SETATTR, node, &body).unwrap();
        number(&attributes, 16 + 60) & 0o7777
    };
    // The guest is told what has become of it.
    assert_eq!(chmod(node), 0o1711);
    assert_eq!(mode("node"), 0o1711);
    let body = [&0o755_u32.to_le_bytes()[..], &[0; 4], &name("directory")].concat();
    let directory = long(&ask(&share, op::MKDIR, ROOT_ID, &body).unwrap(), 0);
    assert_eq!(chmod(directory), 0o7711);
    // The host's own do not keep theirs when the guest changes what they do, be the server root or not.
    let range = [&handle.to_le_bytes()[..], &[0; 8], &1_u64.to_le_bytes(), &[0; 8]].concat();
    let copy = [&handle.to_le_bytes()[..], &[0; 16], &handle.to_le_bytes(), &8_u64.to_le_bytes()].concat();
    let copy = [&copy[..], &1_u64.to_le_bytes(), &[0; 8]].concat();
    let size = [&8_u32.to_le_bytes()[..], &[0; 84]].concat();
    let truncating = [&(libc::O_WRONLY | libc::O_TRUNC).to_le_bytes()[..], &[0; 4]].concat();
    let created = walk(&share, "created").unwrap();
    let changes: [(&str, &dyn Fn()); 5] = [
        ("write", &|| drop(write(&share, handle, b"x").unwrap())),
        ("fallocate", &|| drop(ask(&share, op::FALLOCATE, created, &range).unwrap())),
        ("copy", &|| drop(ask(&share, op::COPY_FILE_RANGE, created, &copy).unwrap())),
        ("truncate", &|| drop(ask(&share, op::SETATTR, created, &size).unwrap())),
        ("open", &|| drop(ask(&share, op::OPEN, created, &truncating).unwrap())),
    ];
    for (what, change) in changes {
        fs::write(scratch.shared().join("created"), "contents").unwrap();
        fs::set_permissions(scratch.shared().join("created"), fs::Permissions::from_mode(0o6755)).unwrap();
        change();
        assert_eq!(mode("created"), 0o755, "{what}");
    }
}

/// The host swaps a directory for a link to the outside, as fast as it can, while the guest goes through it.
#[test]
fn a_race_with_the_host_leads_nowhere_else() {
    let scratch = Scratch::new();
    let shared = scratch.shared();
    fs::create_dir(scratch.0.join("outside")).unwrap();
    fs::write(scratch.0.join("outside/file"), "secret").unwrap();
    fs::create_dir(shared.join("dir")).unwrap();
    fs::write(shared.join("dir/file"), "public").unwrap();
    symlink("../outside", shared.join("link")).unwrap();
    let share = share(&shared, false);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                exchange(&shared.join("dir"), &shared.join("link"));
            }
        });
        let mut reached = 0;
        for round in 0..2000 {
            let file = format!("new{round}");
            if let Ok(directory) = walk(&share, "dir") {
                let _ = create(&share, WORKLOAD, directory, &file);
                let made = [&0o755_u32.to_le_bytes()[..], &[0; 4], &name("sub")].concat();
                let _ = ask(&share, op::MKDIR, directory, &made);
            }
            if let Ok(node) = walk(&share, "dir/file")
                && let Ok(handle) = open(&share, node, libc::O_RDONLY)
            {
                assert_eq!(read(&share, handle).unwrap(), b"public");
                reached += 1;
            }
        }
        stop.store(true, Ordering::Relaxed);
        assert!(reached > 0, "the race was never won");
    });
    assert_eq!(fs::read_dir(scratch.0.join("outside")).unwrap().count(), 1);
}

#[test]
fn every_short_request_is_refused_or_answered() {
    let scratch = Scratch::new();
    let share = share(&scratch.shared(), false);
    let body = [0_u8; 128];
    for opcode in 0..64 {
        for length in 0..=body.len() {
            let message = request(opcode, ROOT_ID, &body[..length]);
            let mut reply = Reply::new();
            let answer = dispatch::answer(&share, &message, &mut reply);
            let silent = matches!(opcode, op::FORGET | op::BATCH_FORGET | op::INTERRUPT);
            assert_eq!(answer.is_none(), silent, "opcode {opcode}");
        }
    }
}

/// Requests that a kernel could send, with bytes changed at random: the same ones in every run.
#[test]
fn mutated_requests_stay_inside() {
    let scratch = Scratch::new();
    let shared = scratch.shared();
    fs::create_dir(shared.join("d")).unwrap();
    fs::write(shared.join("d/f"), "x").unwrap();
    fs::write(scratch.0.join("outside"), "untouched").unwrap();
    symlink("../outside", shared.join("l")).unwrap();
    let share = share(&shared, false);
    let (d, f) = (walk(&share, "d").unwrap(), walk(&share, "d/f").unwrap());
    let handle = open(&share, f, libc::O_RDWR).unwrap();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    for _ in 0..20_000 {
        let mut body = Vec::new();
        for _ in 0..random(8) {
            match random(5) {
                0 => body.extend(name(["f", "d", "l", "..", "x/y"][usize::try_from(random(5)).unwrap()])),
                1 => body.extend(handle.to_le_bytes()),
                2 => body.extend([d, f, ROOT_ID][usize::try_from(random(3)).unwrap()].to_le_bytes()),
                3 => body.extend(u32::try_from(random(0x1_0000)).unwrap().to_le_bytes()),
                _ => body.extend([0; 8]),
            }
        }
        let node = [ROOT_ID, d, f, 4, 5, 6][usize::try_from(random(6)).unwrap()];
        let mut message = request(u32::try_from(random(54)).unwrap(), node, &body);
        for _ in 0..random(3) {
            let at = usize::try_from(random(message.len() as u64)).unwrap();
            message[at] = u8::try_from(random(256)).unwrap();
        }
        let mut reply = Reply::new();
        if let Some(answer) = dispatch::answer(&share, &message, &mut reply) {
            assert_eq!(number(answer, 0) as usize, answer.len());
        }
    }
    assert_eq!(fs::read(scratch.0.join("outside")).unwrap(), b"untouched");
    assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 2);
}

#[test]
fn a_length_that_lies_ends_the_connection() {
    for length in [0_u32, 39, u32::try_from(MAX_MESSAGE_BYTES).unwrap() + 1, u32::MAX] {
        let scratch = Scratch::new();
        let share = share(&scratch.shared(), false);
        let (mut guest, server) = UnixStream::pair().unwrap();
        thread::scope(|scope| {
            let served = scope.spawn(|| serve(&share, &server));
            guest.write_all(&request(op::GETATTR, ROOT_ID, &[0; 16])).unwrap();
            let mut answer = [0; 16 + 104];
            guest.read_exact(&mut answer).unwrap();
            guest.write_all(&[&length.to_le_bytes()[..], &[0; 36]].concat()).unwrap();
            assert_eq!(guest.read(&mut answer).unwrap_or(0), 0);
            served.join().unwrap().unwrap_err();
        });
    }
}

#[test]
fn a_flood_is_answered_one_by_one() {
    let scratch = Scratch::new();
    let share = share(&scratch.shared(), false);
    let (guest, server) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| serve(&share, &server));
        scope.spawn(|| {
            for _ in 0..5_000 {
                (&guest).write_all(&request(op::GETATTR, ROOT_ID, &[0; 16])).unwrap();
            }
        });
        let mut answer = [0; 16 + 104];
        for _ in 0..5_000 {
            (&guest).read_exact(&mut answer).unwrap();
            assert_eq!(number(&answer, 4), 0);
        }
        guest.shutdown(std::net::Shutdown::Both).unwrap();
    });
}

#[test]
fn a_listing_goes_on_where_it_was_left() {
    let scratch = Scratch::new();
    for index in 0..300 {
        fs::write(scratch.shared().join(format!("file-{index:03}")), "").unwrap();
    }
    let share = share(&scratch.shared(), false);
    for (opcode, entry) in [(op::READDIR, 0), (op::READDIRPLUS, 128)] {
        let handle = long(&ask(&share, op::OPENDIR, ROOT_ID, &[0; 8]).unwrap(), 0);
        let (mut offset, mut names) = (0_u64, Vec::new());
        loop {
            let body = [&handle.to_le_bytes()[..], &offset.to_le_bytes(), &1000_u32.to_le_bytes(), &[0; 20]];
            let listing = ask_raw(&share, &request(opcode, ROOT_ID, &body.concat())).unwrap();
            assert!(listing.len() <= 1000);
            let mut at = 0;
            while at < listing.len() {
                let length = number(&listing, at + entry + 16) as usize;
                offset = long(&listing, at + entry + 8);
                let start = at + entry + 24;
                names.push(String::from_utf8(listing[start..start + length].to_vec()).unwrap());
                at += (entry + 24 + length).next_multiple_of(8);
            }
            if listing.is_empty() {
                break;
            }
        }
        names.sort();
        assert_eq!(names.len(), 302);
        names.dedup();
        assert_eq!(names.len(), 302);
    }
    // "." and ".." were told of without a node.
    assert_eq!(share.nodes.counts().0, 301);
}
