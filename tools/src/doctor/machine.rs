//! The machine as its kernel tells of it: texts below `/proc` and `/sys`, read from a root that a test may choose.
//! Not what they mean.

use std::fs;
use std::path::{Path, PathBuf};

use super::parse::{self, Mount};

/// Where the texts of a kernel are.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    root: PathBuf,
}

impl Machine {
    /// Returns the one below `root`, which is `/` but for tests.
    pub(crate) fn at(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
        }
    }

    /// Returns where the file of an absolute path is.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// Returns a text without the blanks around it, if it can be read.
    pub(crate) fn read(&self, path: &str) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?;
        Some(text.trim().to_owned())
    }

    /// Returns what is set: the word in brackets, or the whole text.
    pub(crate) fn chosen(&self, path: &str) -> Option<String> {
        self.read(path).map(|text| parse::chosen(&text).to_owned())
    }

    /// Returns a number.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.read(path)?.parse().ok()
    }

    /// Returns the names in a directory, in order.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten();
        let mut names: Vec<String> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort_unstable();
        names
    }

    /// Tells whether a process of one of these names runs.
    pub(crate) fn runs(&self, wanted: &[&'static str]) -> Option<&'static str> {
        let is_number = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
        let mut processes = self.names("/proc").into_iter().filter(is_number);
        processes.find_map(|process| {
            let name = self.read(&format!("/proc/{process}/comm"))?;
            wanted.iter().find(|wanted| **wanted == name).copied()
        })
    }

    /// Returns the mount that holds `path`, which is absolute and without links.
    pub(crate) fn mount_of(&self, path: &Path) -> Option<Mount> {
        let mounts = self.read("/proc/self/mountinfo")?;
        parse::mount_of(&mounts, path.to_str()?)
    }

    /// Returns the names of the whole disks beneath a mount: none when it lies on no disk.
    pub(crate) fn disks(&self, mount: &Mount) -> Vec<String> {
        let by_number = self.path(&format!("/sys/dev/block/{}", mount.device));
        // A file system of several devices has a number of its own.
        let by_name = mount.source.strip_prefix("/dev/");
        let by_name = by_name.map(|name| self.path(&format!("/sys/class/block/{name}")));
        let found = [Some(by_number), by_name]
            .into_iter()
            .flatten()
            .find_map(|path| path.canonicalize().ok());
        let mut disks = Vec::new();
        if let Some(path) = found {
            collect_disks(&path, &mut disks);
        }
        disks.sort_unstable();
        disks.dedup();
        disks
    }

    /// Returns the name under which a disk's interrupts are listed: their own or that of its controller.
    pub(crate) fn interrupt_name(&self, disk: &str) -> Option<String> {
        if let Some(rest) = disk.strip_prefix("nvme") {
            let controller: String = rest.chars().take_while(char::is_ascii_digit).collect();
            return Some(format!("nvme{controller}q"));
        }
        let device = self.path(&format!("/sys/class/block/{disk}"));
        let device = device.canonicalize().ok()?;
        let mut parts = device
            .iter()
            .filter_map(|part| part.to_str())
            .filter(|part| {
                let number = part.strip_prefix("virtio");
                number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
            });
        parts.next_back().map(|virtio| format!("{virtio}-"))
    }
}

/// Adds the whole disks beneath a block device, which may be a partition, or made of others.
fn collect_disks(device: &Path, disks: &mut Vec<String>) {
    let whole = match device.join("partition").exists() {
        true => device.parent().unwrap_or(device),
        false => device,
    };
    let beneath: Vec<PathBuf> = fs::read_dir(whole.join("slaves"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.path().canonicalize().ok())
        .collect();
    for device in &beneath {
        collect_disks(device, disks);
    }
    if beneath.is_empty() {
        disks.extend(
            whole
                .file_name()
                .and_then(|n| n.to_str())
                .map(str::to_owned),
        );
    }
}
