//! Folders and names: what processes see, what the medium holds, and what came in between.

use super::content::Survival;
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// What a name stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Entry {
    Folder,
    File(u64),
}

/// All names by path. The data folder itself, the empty path, is always there.
#[derive(Clone, Default)]
pub(super) struct Names {
    cache: BTreeMap<String, Entry>,
    medium: BTreeMap<String, Entry>,
    /// For each name that changed since its folder was synced: what it stood for, in order. Any of these may be what a
    /// power loss leaves, or what the medium has.
    changes: BTreeMap<String, Vec<Option<Entry>>>,
}

impl Names {
    pub(super) fn get(&self, path: &str) -> Option<Entry> {
        if path.is_empty() { Some(Entry::Folder) } else { self.cache.get(path).copied() }
    }

    pub(super) fn file(&self, path: &str) -> Option<u64> {
        match self.get(path) {
            Some(Entry::File(id)) => Some(id),
            Some(Entry::Folder) | None => None,
        }
    }

    pub(super) fn is_folder(&self, path: &str) -> bool {
        self.get(path) == Some(Entry::Folder)
    }

    /// Lets a name stand for something else, or for nothing.
    pub(super) fn set(&mut self, path: &str, entry: Option<Entry>) {
        match entry {
            Some(entry) => self.cache.insert(path.to_owned(), entry),
            None => self.cache.remove(path),
        };
        self.changes.entry(path.to_owned()).or_default().push(entry);
    }

    /// The names in a folder, in order.
    pub(super) fn list(&self, folder: &str) -> Vec<String> {
        let paths = self.cache.keys().filter(|path| folder_of(path) == folder);
        paths.map(|path| path.rsplit_once('/').map_or(path.as_str(), |(_, name)| name).to_owned()).collect()
    }

    /// All files that processes see, by path.
    pub(super) fn files(&self) -> impl Iterator<Item = (&str, u64)> {
        files_in(&self.cache)
    }

    /// All files that have a name on the medium, by path.
    pub(super) fn durable_files(&self) -> impl Iterator<Item = (&str, u64)> {
        files_in(&self.medium)
    }

    /// Every file that has a name somewhere, or may have one after a power loss.
    pub(super) fn in_use(&self) -> BTreeSet<u64> {
        let entries = self.cache.values().chain(self.medium.values()).chain(self.changes.values().flatten().flatten());
        let file = |entry: &Entry| if let Entry::File(id) = entry { Some(*id) } else { None };
        entries.filter_map(file).collect()
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync(&mut self, folder: &str) {
        let (medium, cache) = (&mut self.medium, &self.cache);
        self.changes.retain(|path, _| {
            if folder_of(path) != folder {
                return true;
            }
            match cache.get(path) {
                Some(entry) => medium.insert(path.clone(), *entry),
                None => medium.remove(path),
            };
            false
        });
    }

    /// Leaves what survives a power loss. Returns how many names are not as processes saw them.
    pub(super) fn power_loss(&mut self, survival: Survival, rng: &mut ChaCha8Rng) -> u64 {
        for (path, changes) in std::mem::take(&mut self.changes) {
            let entry = match survival {
                Survival::Everything => changes.last(),
                Survival::Nothing => None,
                // The last of them means that the medium has what it had.
                _ => changes.get(rng.random_range(0..=changes.len())),
            };
            match entry {
                Some(Some(entry)) => drop(self.medium.insert(path, *entry)),
                Some(None) => drop(self.medium.remove(&path)),
                None => {}
            }
        }
        self.drop_second_names();
        self.drop_lost_folders();
        let lost = self.cache.iter().filter(|(path, entry)| self.medium.get(*path) != Some(entry)).count();
        let back = self.medium.keys().filter(|path| !self.cache.contains_key(*path)).count();
        self.cache.clone_from(&self.medium);
        (lost + back) as u64
    }

    /// A rename is atomic: the file never has both names. Of two, the one that processes saw last stays.
    fn drop_second_names(&mut self) {
        let mut seen: BTreeMap<u64, String> = BTreeMap::new();
        let mut second = Vec::new();
        for (path, id) in files_in(&self.medium) {
            let newest = self.cache.get(path) == Some(&Entry::File(id));
            match seen.get_mut(&id) {
                None => drop(seen.insert(id, path.to_owned())),
                Some(first) if newest => second.push(std::mem::replace(first, path.to_owned())),
                Some(_) => second.push(path.to_owned()),
            }
        }
        for path in second {
            self.medium.remove(&path);
        }
    }

    /// What lies in a folder whose own name is lost is lost with it.
    fn drop_lost_folders(&mut self) {
        let mut folders = BTreeSet::from([String::new()]);
        // A folder's path comes before those in it.
        self.medium.retain(|path, entry| {
            let reachable = folders.contains(folder_of(path));
            if reachable && *entry == Entry::Folder {
                folders.insert(path.clone());
            }
            reachable
        });
    }
}

fn files_in(names: &BTreeMap<String, Entry>) -> impl Iterator<Item = (&str, u64)> {
    names.iter().filter_map(|(path, entry)| match entry {
        Entry::File(id) => Some((path.as_str(), *id)),
        Entry::Folder => None,
    })
}

/// The folder that a name is in.
pub(super) fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
