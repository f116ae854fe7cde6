use super::*;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn owner(durability: Durability) -> Owner {
    Owner { cluster: ClusterId(Uuid::from_u128(1)), node: NodeId(Uuid::from_u128(2)), shards: 16, durability }
}

/// Opens it. A program that another test of this process starts has the lock of a closed folder, too, until it runs: that is waited for.
fn open(folder: &TempDir, owner: Owner, boot: &str) -> Result<DataFolder, FolderError> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match open_at_once(folder, owner, boot) {
            Err(error) if error.exit() == Exit::InUse && Instant::now() < until => std::thread::yield_now(),
            opened => return opened,
        }
    }
}

fn open_at_once(folder: &TempDir, owner: Owner, boot: &str) -> Result<DataFolder, FolderError> {
    DataFolder::open(&folder.path().join("data"), owner, boot)
}

fn message(folder: &TempDir, result: Result<DataFolder, FolderError>) -> String {
    result.unwrap_err().to_string().replace(&folder.path().display().to_string(), "")
}

#[test]
fn the_identity_is_made_once_and_kept() {
    let folder = TempDir::new().unwrap();
    let first = open(&folder, owner(Durability::Fsync), "boot").unwrap();
    assert_eq!(first.start_kind(), StartKind::First);
    let disk = first.disk();
    first.stop_clean().unwrap();
    let second = open(&folder, owner(Durability::Fsync), "boot").unwrap();
    assert_eq!((second.disk(), second.start_kind()), (disk, StartKind::AfterCleanStop));
    drop(second);
    let third = open(&folder, owner(Durability::Fsync), "boot").unwrap();
    assert_eq!((third.disk(), third.start_kind()), (disk, StartKind::AfterCrash));
}

#[test]
fn a_second_opener_learns_who_was_first() {
    let folder = TempDir::new().unwrap();
    let first = open(&folder, owner(Durability::Fsync), "boot").unwrap();
    let second = open_at_once(&folder, owner(Durability::Fsync), "boot");
    assert_eq!(second.as_ref().unwrap_err().exit(), Exit::InUse);
    let expected = format!("data folder /data is in use by process {}", std::process::id());
    assert_eq!(message(&folder, second), expected);
    drop(first);
    assert!(open(&folder, owner(Durability::Fsync), "boot").is_ok());
}

#[test]
fn a_folder_of_somebody_else_is_refused() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder, owner(Durability::Fsync), "boot").unwrap());
    let good = owner(Durability::Fsync);
    let others = [
        (Owner { cluster: ClusterId(Uuid::from_u128(9)), ..good }, "cluster_id"),
        (Owner { node: NodeId(Uuid::from_u128(9)), ..good }, "node_id"),
        (Owner { shards: 8, ..good }, "shards"),
        (Owner { durability: Durability::Memory, ..good }, "durability"),
    ];
    for (other, field) in others {
        let error = open(&folder, other, "boot").unwrap_err();
        assert_eq!(error.exit(), Exit::Config);
        assert!(error.to_string().contains(&format!("has {field} ")), "{error}");
    }
    assert_eq!(
        message(&folder, open(&folder, Owner { shards: 8, ..good }, "boot")),
        "data folder /data has shards 16, the configuration says 8"
    );
}

#[test]
fn files_without_an_identity_are_not_taken_over() {
    let folder = TempDir::new().unwrap();
    fs::create_dir_all(folder.path().join("data")).unwrap();
    fs::write(folder.path().join("data/precious"), "something").unwrap();
    let error = open(&folder, owner(Durability::Fsync), "boot").unwrap_err();
    assert_eq!(error.exit(), Exit::Config);
    assert!(error.to_string().contains("holds files (precious) but no identity"), "{error}");
}

/// The folder's files with a byte flipped, one after the other, in two ways each.
fn each_flip(folder: &TempDir, file: &str, mut look: impl FnMut(usize)) {
    let path = folder.path().join("data").join(file);
    for at in 0..fs::read(&path).unwrap().len() {
        for bits in [0xff, 1 << (at % 8)] {
            let sound = fs::read(&path).unwrap();
            let mut damaged = sound.clone();
            damaged[at] ^= bits;
            fs::write(&path, damaged).unwrap();
            look(at);
            fs::write(&path, sound).unwrap();
        }
    }
}

#[test]
fn a_byte_that_flips_in_one_copy_of_the_identity_is_mended_from_the_other() {
    let folder = TempDir::new().unwrap();
    let first = open(&folder, owner(Durability::Fsync), "boot").unwrap();
    let disk = first.disk();
    first.stop_clean().unwrap();
    let read = |file: &str| fs::read(folder.path().join("data").join(file)).unwrap();
    let sound = read(IDENTITY);
    for file in [IDENTITY, IDENTITY_COPY] {
        each_flip(&folder, file, |at| {
            let opened = open(&folder, owner(Durability::Fsync), "boot");
            let opened = opened.unwrap_or_else(|error| panic!("{file}, byte {at}: {error}"));
            assert_eq!((opened.disk(), opened.start_kind()), (disk, StartKind::AfterCleanStop));
            opened.stop_clean().unwrap();
            assert!(read(IDENTITY) == sound && read(IDENTITY_COPY) == sound, "{file}, byte {at} is mended");
        });
    }
}

#[test]
fn a_byte_that_flips_in_the_run_state_is_a_crash_at_worst() {
    let folder = TempDir::new().unwrap();
    for (durability, worst) in [(Durability::Fsync, StartKind::AfterCrash), (Durability::Memory, StartKind::Amnesiac)] {
        let folder = if durability == Durability::Fsync { &folder } else { &TempDir::new().unwrap() };
        open(folder, owner(durability), "boot").unwrap().stop_clean().unwrap();
        each_flip(folder, RUN_STATE, |at| {
            let opened = open(folder, owner(durability), "boot");
            let opened = opened.unwrap_or_else(|error| panic!("byte {at}: {error}"));
            assert_eq!(opened.start_kind(), worst, "byte {at}");
        });
    }
}

#[test]
fn starts_are_counted_whichever_copy_is_damaged_and_never_anew() {
    let folder = TempDir::new().unwrap();
    assert_eq!(open(&folder, owner(Durability::Fsync), "boot").unwrap().starts(), 1);
    let mut counted = 1;
    for file in [STARTS, STARTS_COPY] {
        let path = folder.path().join("data").join(file);
        for at in 0..fs::read(&path).unwrap().len() {
            let mut damaged = fs::read(&path).unwrap();
            damaged[at] ^= 0xff;
            fs::write(&path, damaged).unwrap();
            counted += 1;
            assert_eq!(open(&folder, owner(Durability::Fsync), "boot").unwrap().starts(), counted, "{file}, byte {at}");
        }
    }
    for file in [STARTS, STARTS_COPY] {
        fs::remove_file(folder.path().join("data").join(file)).unwrap();
    }
    let error = open(&folder, owner(Durability::Fsync), "boot").unwrap_err();
    assert!(error.to_string().contains("the file starts is damaged, and so is its copy"), "{error}");
}

#[test]
fn only_a_process_that_has_the_lock_open_is_named() {
    let place = TempDir::new().unwrap();
    let path = place.path();
    let lock = lock(path).unwrap();
    assert_eq!(process_of(path).unwrap(), i32::try_from(std::process::id()).ok());
    fs::write(path.join(LOCK), "1\n").unwrap();
    assert_eq!(process_of(path).unwrap(), None, "somebody else's process");
    drop(lock);
    assert_eq!(process_of(path).unwrap(), None);
}

#[test]
fn a_byte_that_flips_in_the_lock_is_not_noticed() {
    let folder = TempDir::new().unwrap();
    open(&folder, owner(Durability::Fsync), "boot").unwrap().stop_clean().unwrap();
    each_flip(&folder, LOCK, |at| {
        let opened = open(&folder, owner(Durability::Fsync), "boot");
        opened.unwrap_or_else(|error| panic!("byte {at}: {error}")).stop_clean().unwrap();
    });
}

#[test]
fn a_folder_from_before_there_were_copies_gets_one() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder, owner(Durability::Fsync), "boot").unwrap());
    let path = folder.path().join("data");
    fs::remove_file(path.join(IDENTITY_COPY)).unwrap();
    drop(open(&folder, owner(Durability::Fsync), "boot").unwrap());
    assert_eq!(fs::read(path.join(IDENTITY_COPY)).unwrap(), fs::read(path.join(IDENTITY)).unwrap());
}

#[test]
fn an_identity_that_somebody_removed_is_not_mended() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder, owner(Durability::Fsync), "boot").unwrap());
    fs::remove_file(folder.path().join("data/identity")).unwrap();
    fs::write(folder.path().join("data/precious"), "something").unwrap();
    assert!(matches!(open(&folder, owner(Durability::Fsync), "boot"), Err(FolderError::NoIdentity { .. })));
}

#[test]
fn a_folder_whose_journal_is_lost_has_amnesia() {
    let folder = TempDir::new().unwrap();
    let mut lost = open(&folder, owner(Durability::Fsync), "boot").unwrap();
    let disk = lost.disk();
    lost.lose_memory().unwrap();
    assert_eq!(lost.start_kind(), StartKind::Amnesiac);
    assert_ne!(lost.disk(), disk, "what has forgotten is not the folder that promised");
    drop(lost);
    let mut again = open(&folder, owner(Durability::Fsync), "boot").unwrap();
    assert_eq!(again.start_kind(), StartKind::Amnesiac, "until its replicas are given up");
    again.amnesia_healed().unwrap();
    let disk = again.disk();
    drop(again);
    let healed = open(&folder, owner(Durability::Fsync), "boot").unwrap();
    assert_eq!((healed.disk(), healed.start_kind()), (disk, StartKind::AfterCrash));
}

#[test]
fn an_identity_of_which_both_copies_are_damaged_is_not_replaced() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder, owner(Durability::Fsync), "boot").unwrap());
    for file in [IDENTITY, IDENTITY_COPY] {
        let path = folder.path().join("data").join(file);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("shards 16", "shards 18", 1)).unwrap();
    }
    let error = open(&folder, owner(Durability::Fsync), "boot").unwrap_err();
    assert_eq!(error.exit(), Exit::Disk);
    assert!(error.to_string().contains("the file identity is damaged, and so is its copy"), "{error}");
}

/// What a data folder's identity says; folders on disks hold these bytes.
#[test]
fn the_bytes_of_an_identity_are_frozen() {
    let golden = "kvorum data folder\nformat 1\ncluster 00000000-0000-0000-0000-000000000001\n\
        node 00000000-0000-0000-0000-000000000002\nshards 16\ndurability fsync\n\
        disk 00000000-0000-0000-0000-000000000003\ncrc32 43ec5eae\n";
    assert_eq!(identity_text(owner(Durability::Fsync), FolderId(Uuid::from_u128(3))), golden);
}

/// Whatever the next version has behind its number, and whichever copy says it.
#[test]
fn a_folder_of_the_next_version_is_refused_and_stays_as_it_is() {
    let folder = TempDir::new().unwrap();
    open(&folder, owner(Durability::Fsync), "boot").unwrap().stop_clean().unwrap();
    let path = folder.path().join("data");
    let lines = vec![("format", "2".to_owned()), ("zone", "a thing to come".to_owned())];
    let next = Record { title: TITLE, lines }.encode();
    let sound = fs::read_to_string(path.join(IDENTITY)).unwrap();
    let files = [IDENTITY, IDENTITY_COPY, RUN_STATE, STARTS, STARTS_COPY];
    for copy in [next.clone(), sound.clone(), "damaged".to_owned()] {
        fs::write(path.join(IDENTITY), &next).unwrap();
        fs::write(path.join(IDENTITY_COPY), &copy).unwrap();
        let before = files.map(|file| fs::read_to_string(path.join(file)).unwrap());
        let refused = open(&folder, owner(Durability::Fsync), "boot");
        assert_eq!(refused.as_ref().unwrap_err().exit(), Exit::Config);
        let expected = "/data: the data folder has version 2, and this program reads version 1: start a newer program";
        assert_eq!(message(&folder, refused), expected);
        let after = files.map(|file| fs::read_to_string(path.join(file)).unwrap());
        if copy == "damaged" {
            assert_eq!(after[1], next, "the copy is mended from what is newer");
        } else {
            assert_eq!(after, before);
        }
        assert!(matches!(inspect(&path).identity, Part::Unsupported(version) if version.found == 2));
    }
    for file in [IDENTITY, IDENTITY_COPY] {
        fs::write(path.join(file), &sound).unwrap();
    }
    assert!(open(&folder, owner(Durability::Fsync), "boot").is_ok(), "the program that reads it goes on with it");
}

#[test]
fn amnesia_stays_until_it_is_healed() {
    let folder = TempDir::new().unwrap();
    let memory = owner(Durability::Memory);
    let remembered = open(&folder, memory, "monday").unwrap();
    let disk = remembered.disk();
    drop(remembered);
    let mut forgot = open(&folder, memory, "tuesday").unwrap();
    assert_eq!(forgot.start_kind(), StartKind::Amnesiac);
    assert_ne!(forgot.disk(), disk, "what has forgotten is not the folder that promised");
    drop(forgot);
    forgot = open(&folder, memory, "tuesday").unwrap();
    assert_eq!(forgot.start_kind(), StartKind::Amnesiac, "a crash does not heal");
    forgot.stop_clean().unwrap();
    forgot = open(&folder, memory, "tuesday").unwrap();
    assert_eq!(forgot.start_kind(), StartKind::Amnesiac, "a clean stop does not heal");
    forgot.amnesia_healed().unwrap();
    let disk = forgot.disk();
    drop(forgot);
    let healed = open(&folder, memory, "tuesday").unwrap();
    assert_eq!((healed.start_kind(), healed.disk()), (StartKind::AfterCrash, disk));
}

#[test]
fn a_folder_that_can_not_be_made_is_named() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("data"), "a file").unwrap();
    let error = open(&folder, owner(Durability::Fsync), "boot").unwrap_err();
    assert_eq!(error.exit(), Exit::CannotCreate);
    assert!(error.to_string().contains("cannot be created or opened"), "{error}");
}

#[test]
fn the_boot_id_is_there() {
    assert_eq!(boot_id().unwrap().len(), 36);
}
