//! Kernel modules that the host put into the initramfs, for kernels that do not have them built in.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::Path;

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::console;

/// Loads `/modules/<NN>-<name>.ko` in the order of their names, and removes each: an initramfs is memory. A
/// module that does not load is reported and passed over: what it was needed for fails later with a better
/// message, or was not needed.
pub fn load_all(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else {
        return; // a kernel with everything built in
    };
    let names = load_order(entries.flatten().map(|entry| entry.file_name()));
    for name in names {
        let path = directory.join(&name);
        if let Err(error) = load(&path) {
            console::report(&format!("cannot load module {}: {error}", name.display()));
        }
        let _ = fs::remove_file(path);
    }
}

fn load_order(names: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut modules: Vec<OsString> =
        names.filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "ko")).collect();
    modules.sort_unstable();
    modules
}

fn load(path: &Path) -> Result<(), Errno> {
    let file = File::open(path).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    match finit_module(file, c"", ModuleInitFlags::empty()) {
        // Loaded already, or a driver of what this machine does not have.
        Ok(()) | Err(Errno::EEXIST | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_load_in_the_order_of_their_names() {
        let names = ["10-overlay.ko", "01-virtio.ko", "README", "02-virtio_mmio.ko", "03-x.ko.xz"];
        let order = load_order(names.iter().map(OsString::from));
        assert_eq!(order, ["01-virtio.ko", "02-virtio_mmio.ko", "10-overlay.ko"]);
    }
}
