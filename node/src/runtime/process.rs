//! What this process uses of its machine, as the system tells.

/// The memory that this process may use: the machine's, or what its control group is given of it. `None` where the system
/// does not say.
pub(crate) fn machine_memory_bytes() -> Option<u64> {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        let kibibytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        kibibytes.checked_mul(1024)
    });
    // It says "max" where there is no limit.
    let group = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    [machine, group].into_iter().flatten().min()
}

/// What the process uses. Zeros where the system does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProcessUse {
    /// Resident memory, in bytes, mapped pages of files included.
    pub resident_bytes: u64,
    /// Of these, pages of files: they go when others need the memory.
    pub resident_file_bytes: u64,
    /// Processor time, in microseconds.
    pub cpu_us: u64,
    /// Of this, what the system spent for the process.
    pub system_us: u64,
    /// Threads.
    pub threads: u64,
}

impl ProcessUse {
    /// Reads `/proc`. Takes some microseconds.
    pub fn look() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self::read(&status, &stat, rustix::param::clock_ticks_per_second().max(1))
    }

    fn read(status: &str, stat: &str, ticks_per_second: u64) -> Self {
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        // The second field is the program's name in brackets and may hold anything; count behind it.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = after_name.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Self {
            resident_bytes: number("VmRSS") * 1_024,
            resident_file_bytes: number("RssFile") * 1_024,
            cpu_us: (ticks(11) + ticks(12)) * 1_000_000 / ticks_per_second,
            system_us: ticks(12) * 1_000_000 / ticks_per_second,
            threads: number("Threads"),
        }
    }
}

/// Descriptors that are open, and the most that may be. Reads a folder of `/proc`.
pub fn descriptors() -> (u64, u64) {
    let open = std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    // The folder itself is one.
    (open.saturating_sub(1), limit.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        let status = "Name:\tkvorum\nVmRSS:\t    2048 kB\nRssFile:\t     512 kB\nThreads:\t7\n";
        let stat = "1 (a) b) S 1 1 1 0 -1 4194304 1 0 0 0 150 50 0 0 20 0 7 0 1 1 1";
        let seen = ProcessUse::read(status, stat, 100);
        assert_eq!(
            seen,
            ProcessUse {
                resident_bytes: 2 << 20,
                resident_file_bytes: 512 << 10,
                cpu_us: 2_000_000,
                system_us: 500_000,
                threads: 7
            }
        );
        assert_eq!(ProcessUse::read("", "", 100), ProcessUse::default());
    }

    #[test]
    fn this_process_is_seen() {
        let seen = ProcessUse::look();
        assert!(seen.resident_bytes > 0 && seen.threads > 0);
        let (open, limit) = descriptors();
        assert!(open >= 3 && open < limit);
    }
}
