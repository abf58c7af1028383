//! What the guest knows: every file that it was told of has a node number, until it forgets it.
//!
//! A node is an O_PATH descriptor, which stays with the file whatever is renamed around it. Descriptors are
//! bounded, though, and a guest may know millions of files: the least used are closed, and such a node is
//! found again by its name below its parent, if that is still the same file.
//!
//! Nodes are bounded too. Beyond the bound those that can be spared are dropped without the guest's doing: it
//! gets ESTALE for such a number, and its kernel walks the path anew. A file's number follows from what the
//! file is, so that it comes back under the same one: what the guest has mounted on it, or keeps of it, stays.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ffi::{CStr, CString};
use std::hash::{BuildHasher, RandomState};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Statx, StatxFlags, openat, statx};
use rustix::io::Errno;

use crate::abi::ROOT_ID;

/// Enough for what a guest has in hand at once; what it only remembers can be dropped.
const MAX_NODES: usize = 300_000;
/// They take 256 MiB at most. A table of 2^20 places is emptied of what was removed from it rather than doubled
/// as long as no more than half of what it can hold is there.
const _: () = {
    const LONGEST_NAME_ALLOCATED: usize = 288;
    let places = (size_of::<(u64, Entry)>() + 1) << 20;
    assert!(MAX_NODES < (7 << 20) / 8 / 2 && places + MAX_NODES * LONGEST_NAME_ALLOCATED <= 256 << 20);
};
/// Longer chains of names are no path.
const MAX_DEPTH: usize = 4096;

/// Tells one file from every other, also from a later one with the same inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    device: (u32, u32),
    inode: u64,
    mount: u64,
    born: (i64, u32),
}

impl Key {
    pub fn of(stat: &Statx) -> Self {
        Self {
            device: (stat.stx_dev_major, stat.stx_dev_minor),
            inode: stat.stx_ino,
            mount: stat.stx_mnt_id,
            born: (stat.stx_btime.tv_sec, stat.stx_btime.tv_nsec),
        }
    }

    pub fn device(&self) -> (u32, u32) {
        self.device
    }
}

/// Everything that statx(2) tells of an open file.
pub fn stat(fd: &OwnedFd) -> Result<Statx, Errno> {
    statx(fd, c"", AtFlags::EMPTY_PATH, FIELDS)
}

pub const FIELDS: StatxFlags =
    StatxFlags::BASIC_STATS.union(StatxFlags::BTIME).union(StatxFlags::from_bits_retain(STATX_MNT_ID));
/// Since Linux 5.8; before, all mounts look like one.
const STATX_MNT_ID: u32 = 0x1000;

/// Opens one component without following it, and without any effect on what it is.
pub fn open_path(directory: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    openat(directory, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

/// A node's file, for the length of one operation.
#[derive(Debug, Clone)]
pub struct Node {
    pub fd: Arc<OwnedFd>,
    pub key: Key,
}

/// A state of a file's contents: as long as it stays the same, so do they.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Version {
    pub fn of(stat: &Statx) -> Self {
        Self {
            size: stat.stx_size,
            modified: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
            changed: (stat.stx_ctime.tv_sec, stat.stx_ctime.tv_nsec),
        }
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub descriptors: usize,
    pub nodes: usize,
}

impl Limits {
    pub fn new(descriptors: usize) -> Self {
        Self { descriptors, nodes: MAX_NODES }
    }
}

#[derive(Debug)]
struct Entry {
    key: Key,
    fd: Option<Arc<OwnedFd>>,
    /// Where it was last seen; 0 is nowhere.
    parent: u64,
    name: CString,
    /// How often the guest was told of it.
    lookups: u64,
    /// Nodes whose `parent` this is.
    children: u64,
    /// Open files and directories: as long as there is one, `fd` stays.
    pins: u64,
    /// Used since eviction last came by.
    used: bool,
    is_directory: bool,
    seen: Option<Version>,
}

#[derive(Debug)]
struct Table {
    entries: HashMap<u64, Entry>,
    /// How many entries have a descriptor.
    open: usize,
    /// Those entries, in the order in which eviction looks at them; some may be gone.
    queue: VecDeque<u64>,
}

#[derive(Debug)]
pub struct Nodes {
    table: Mutex<Table>,
    limits: Limits,
    /// Makes numbers of files; which ones, no guest can tell beforehand.
    numbers: RandomState,
    root: Key,
}

impl Nodes {
    pub fn new(root: OwnedFd, stat: &Statx, limits: Limits) -> Self {
        let key = Key::of(stat);
        let root = Entry { fd: Some(Arc::new(root)), pins: 1, ..Entry::new(key, stat) };
        let table = Table { entries: HashMap::from([(ROOT_ID, root)]), open: 1, queue: VecDeque::new() };
        Self { table: Mutex::new(table), limits, numbers: RandomState::new(), root: key }
    }

    /// The number of a file, the same whenever the guest is told of it.
    fn number(&self, key: &Key) -> u64 {
        if *key == self.root { ROOT_ID } else { self.numbers.hash_one(key).max(ROOT_ID + 1) }
    }

    /// The file of a node. ESTALE when it cannot be found any more: the guest then looks its path up anew.
    pub fn get(&self, id: u64) -> Result<Node, Errno> {
        for _ in 0..MAX_DEPTH {
            // The nearest ancestor that is open, and the step below it that is not.
            let (directory, step, name, key) = {
                let mut table = self.lock();
                let mut step = id;
                let mut depth = 0;
                loop {
                    let entry = table.entries.get_mut(&step).ok_or(Errno::STALE)?;
                    entry.used = true;
                    if let Some(fd) = &entry.fd {
                        return Ok(Node { fd: Arc::clone(fd), key: entry.key });
                    }
                    let (parent, name, key) = (entry.parent, entry.name.clone(), entry.key);
                    let above = table.entries.get(&parent).ok_or(Errno::STALE)?;
                    if let Some(fd) = &above.fd {
                        break (Arc::clone(fd), step, name, key);
                    }
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(Errno::STALE);
                    }
                    step = parent;
                }
            };
            let fd = open_path(&directory, &name).map_err(|_| Errno::STALE)?;
            if Key::of(&stat(&fd)?) != key {
                return Err(Errno::STALE);
            }
            let fd = Arc::new(fd);
            self.lock().reopened(step, &fd, self.limits.descriptors);
            if step == id {
                return Ok(Node { fd, key });
            }
        }
        Err(Errno::STALE)
    }

    /// Counts one more telling of the file that was found as `name` below `parent`. Returns its number.
    pub fn enter(&self, fd: OwnedFd, stat: &Statx, place: (u64, &CStr)) -> Result<u64, Errno> {
        let key = Key::of(stat);
        let id = self.number(&key);
        let mut table = self.lock();
        if let Some(entry) = table.entries.get_mut(&id) {
            if entry.key != key {
                // Two files in 2^64 with one number: the one that was there first has it.
                return Err(Errno::STALE);
            }
            entry.lookups += 1;
            entry.used = true;
            table.place(id, place);
        } else {
            table.entries.insert(id, Entry::new(key, stat));
            table.place(id, place);
            if !table.make_room(self.limits.nodes, id) {
                table.drop_node(id);
                return Err(Errno::NFILE);
            }
        }
        table.reopened(id, &Arc::new(fd), self.limits.descriptors);
        Ok(id)
    }

    /// A known file has another name now.
    pub fn moved(&self, key: &Key, place: (u64, &CStr)) {
        let id = self.number(key);
        let mut table = self.lock();
        if table.entries.get(&id).is_some_and(|entry| entry.key == *key) {
            table.place(id, place);
        }
    }

    /// The guest forgets `count` tellings.
    pub fn forget(&self, id: u64, count: u64) {
        let mut table = self.lock();
        if id != ROOT_ID
            && let Some(entry) = table.entries.get_mut(&id)
        {
            entry.lookups = entry.lookups.saturating_sub(count);
            table.remove_unused(id);
        }
    }

    /// Keeps the node's descriptor until `unpin`.
    pub fn pin(&self, id: u64, node: &Node) {
        let mut table = self.lock();
        if let Some(entry) = table.entries.get_mut(&id) {
            entry.pins += 1;
            if entry.fd.is_none() {
                table.reopened(id, &node.fd, self.limits.descriptors);
            }
        }
    }

    pub fn unpin(&self, id: u64) {
        if let Some(entry) = self.lock().entries.get_mut(&id) {
            entry.pins = entry.pins.saturating_sub(1);
        }
    }

    /// Whether the contents are those that were there when this was last asked.
    pub fn is_unchanged(&self, id: u64, version: Version) -> bool {
        let mut table = self.lock();
        table.entries.get_mut(&id).is_some_and(|entry| entry.seen.replace(version) == Some(version))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn counts(&self) -> (usize, usize) {
        let table = self.lock();
        (table.entries.len(), table.open)
    }

    #[cfg(test)]
    pub fn queued(&self) -> usize {
        self.lock().queue.len()
    }
}

impl Entry {
    /// A file that the guest has been told of once, nowhere yet.
    fn new(key: Key, stat: &Statx) -> Self {
        Self {
            key,
            fd: None,
            parent: 0,
            name: CString::default(),
            lookups: 1,
            children: 0,
            pins: 0,
            used: true,
            is_directory: FileType::from_raw_mode(stat.stx_mode.into()) == FileType::Directory,
            seen: None,
        }
    }
}

impl Table {
    fn reopened(&mut self, id: u64, fd: &Arc<OwnedFd>, limit: usize) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if entry.fd.is_none() {
            entry.fd = Some(Arc::clone(fd));
            self.open += 1;
            self.queue.push_back(id);
            self.evict(limit);
        }
    }

    /// Closes descriptors that were not used since it last came by, until there are few enough. When all are
    /// in use there are more for a while: as many as the guest has files open, which are bounded themselves.
    fn evict(&mut self, limit: usize) {
        let mut left = 2 * self.queue.len();
        while self.open > limit && left > 0 {
            left -= 1;
            let Some(id) = self.queue.pop_front() else { return };
            let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.fd.is_some()) else { continue };
            if entry.pins > 0 || std::mem::take(&mut entry.used) {
                self.queue.push_back(id);
            } else {
                entry.fd = None;
                self.open -= 1;
            }
        }
        if self.queue.len() > 2 * self.open + 1024 {
            // What was forgotten and told of again is there twice.
            let mut kept = HashSet::with_capacity(self.open);
            let is_open = |id: &u64| self.entries.get(id).is_some_and(|entry| entry.fd.is_some());
            self.queue.retain(|id| is_open(id) && kept.insert(*id));
        }
    }

    /// Keeps at most `limit` nodes: drops some that the guest has not forgotten, but not `newest`, until a quarter
    /// is free. Returns false when too many have to stay: those that are open, and what they lie in.
    fn make_room(&mut self, limit: usize, newest: u64) -> bool {
        if self.entries.len() <= limit {
            return true;
        }
        // Directories go last: one may be where a process of the guest's is, which then has no path to walk.
        let spare = |(&id, entry): (&u64, &Entry)| {
            let is_spare = id != newest && entry.pins == 0 && entry.children == 0;
            is_spare.then_some((entry.is_directory, entry.used, id))
        };
        let mut spares: Vec<_> = self.entries.iter().filter_map(spare).collect();
        spares.sort_unstable();
        for (.., id) in spares {
            if self.entries.len() <= limit / 4 * 3 {
                break;
            }
            self.drop_node(id);
        }
        for entry in self.entries.values_mut() {
            entry.used = false;
        }
        self.entries.len() <= limit
    }

    fn drop_node(&mut self, id: u64) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.lookups = 0;
            self.remove_unused(id);
        }
    }

    /// Notes where a node is. Its old parent may be needed no more.
    fn place(&mut self, id: u64, (parent, name): (u64, &CStr)) {
        if id == ROOT_ID {
            return;
        }
        let parent = if self.is_below(parent, id) { 0 } else { parent };
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.parent, parent);
        if entry.name.as_c_str() != name {
            entry.name = name.to_owned();
        }
        if before == parent {
            return;
        }
        if let Some(above) = self.entries.get_mut(&parent) {
            above.children += 1;
        }
        if let Some(above) = self.entries.get_mut(&before) {
            above.children -= 1;
            self.remove_unused(before);
        }
    }

    /// Whether `id` is `above` or somewhere below it. What the host renames meanwhile could make a circle.
    fn is_below(&self, id: u64, above: u64) -> bool {
        let mut current = id;
        for _ in 0..MAX_DEPTH {
            match self.entries.get(&current) {
                _ if current == above => return true,
                Some(entry) if current != ROOT_ID => current = entry.parent,
                _ => return false,
            }
        }
        true
    }

    /// Removes a node that neither guest nor table needs, and then its parents likewise.
    fn remove_unused(&mut self, id: u64) {
        let mut current = id;
        while current != ROOT_ID
            && let Some(entry) = self.entries.get(&current)
            && entry.lookups == 0
            && entry.children == 0
        {
            let Some(entry) = self.entries.remove(&current) else { return };
            self.open -= usize::from(entry.fd.is_some());
            current = entry.parent;
            if let Some(above) = self.entries.get_mut(&current) {
                above.children -= 1;
            }
        }
    }
}
