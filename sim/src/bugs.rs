//! Bugs that are planted in the node on purpose, to see that the simulator finds them. Compiled in only with the feature
//! `seeded-bugs`.

/// The names of all planted bugs; none without the feature.
pub fn all() -> Vec<&'static str> {
    #[cfg(feature = "seeded-bugs")]
    return kvorum_core::seeded::Bug::ALL.iter().map(|bug| bug.name()).collect();
    #[cfg(not(feature = "seeded-bugs"))]
    Vec::new()
}

/// Until it is dropped, a bug is planted in everything that this thread runs.
pub struct Planted {
    #[cfg(feature = "seeded-bugs")]
    _planted: kvorum_core::seeded::Planted,
}

/// Plants a bug by its name, or none.
///
/// # Panics
/// If there is no such bug, or bugs are not compiled in.
pub fn plant(name: Option<&str>) -> Planted {
    #[cfg(feature = "seeded-bugs")]
    {
        use kvorum_core::seeded;
        use kvorum_core::seeded::Bug;
        let bug = name.map(|name| Bug::from_name(name).unwrap_or_else(|| panic!("there is no bug {name}")));
        Planted { _planted: seeded::plant(bug) }
    }
    #[cfg(not(feature = "seeded-bugs"))]
    {
        assert!(name.is_none(), "bugs are not compiled in");
        Planted {}
    }
}
