//! The end of a text file.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// A log line is cut off rather than making this read more than so much per wanted line.
const BYTES_PER_LINE: u64 = 1024;

/// Returns the last `count` lines of the file at `path`.
pub(crate) fn last_lines(path: &Path, count: usize) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let wanted = (count as u64 + 1) * BYTES_PER_LINE;
    file.seek(SeekFrom::Start(length.saturating_sub(wanted)))?;
    let mut end = Vec::new();
    file.take(wanted).read_to_end(&mut end)?;
    let text = String::from_utf8_lossy(&end);
    let mut lines: Vec<&str> = text.lines().collect();
    if length > wanted && lines.len() > 1 {
        lines.remove(0); // its beginning was not read
    }
    let skipped = lines.len().saturating_sub(count);
    Ok(lines[skipped..].iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_whole_last_lines() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("log");
        let text: Vec<_> = (0..10_000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(&path, text.concat()).unwrap();
        assert_eq!(last_lines(&path, 2).unwrap(), ["line 9998", "line 9999"]);
        std::fs::write(&path, "only\n").unwrap();
        assert_eq!(last_lines(&path, 2).unwrap(), ["only"]);
        std::fs::write(&path, "").unwrap();
        assert!(last_lines(&path, 2).unwrap().is_empty());
    }
}
