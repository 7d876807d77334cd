//! A process from outside: its memory and processor time, as the kernel counts them.

/// Resident bytes.
pub fn rss(pid: u32) -> u64 {
    bytes_of(pid, "VmRSS:")
}

/// Most resident bytes so far.
pub fn peak_rss(pid: u32) -> u64 {
    bytes_of(pid, "VmHWM:")
}

/// Counts [`peak_rss`] anew from now on.
pub fn forget_peak(pid: u32) {
    let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5"); // else the peak since its start is told
}

fn bytes_of(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Seconds of processor time so far.
pub fn cpu(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 =
        after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / 100.0 // a tick of /proc is a hundredth of a second on Linux
}

/// Milliseconds that one sync of a thousand small messages takes in a directory, in the median of some; the file goes again.
///
/// # Errors
/// When nothing can be written there.
pub fn sync_ms(directory: &std::path::Path) -> std::io::Result<f64> {
    const SYNCS: usize = 51;
    const BYTES: usize = 256 << 10;
    let mut file = tempfile::tempfile_in(directory)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let started = std::time::Instant::now();
        std::io::Write::write_all(&mut file, &[0x5a; BYTES])?;
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(SYNCS / 2).copied().unwrap_or(f64::NAN))
}

/// Bytes of all files below a directory.
pub fn disk(directory: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(size).sum()
}
