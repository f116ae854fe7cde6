use super::*;
use tempfile::TempDir;

fn owner(durability: Durability) -> Owner {
    Owner { cluster: ClusterId(Uuid::from_u128(1)), node: NodeId(Uuid::from_u128(2)), shards: 16, durability }
}

fn open(folder: &TempDir, owner: Owner, boot: &str) -> Result<DataFolder, FolderError> {
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
    let second = open(&folder, owner(Durability::Fsync), "boot");
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

#[test]
fn a_damaged_identity_is_not_replaced() {
    let folder = TempDir::new().unwrap();
    drop(open(&folder, owner(Durability::Fsync), "boot").unwrap());
    let path = folder.path().join("data/identity");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replacen("shards 16", "shards 18", 1)).unwrap();
    let error = open(&folder, owner(Durability::Fsync), "boot").unwrap_err();
    assert_eq!(error.exit(), Exit::Disk);
    assert!(error.to_string().contains("the file identity is damaged"), "{error}");
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
