//! Where lines of a log begin: its last ones, and the one at an offset.

use std::{io, path::Path};

use super::{extent, read, retry_while_deleting};

/// Bytes that are looked through at a time.
const BLOCK_BYTES: u64 = 64 << 10;

/// Bytes before an offset in which the beginning of its line is looked for: whoever writes without
/// line ends costs no more.
const MAX_LOOK_BYTES: u64 = 1 << 20;

/// The offset from which on the log whose head is at `path` has its last `lines` lines, as it is
/// now; its end for 0, its beginning if it has fewer. Lines are counted in what is kept. A newline
/// at the very end begins no line of its own.
///
/// The log is gone through backwards, at most all that is kept of it, a block at a time.
///
/// # Errors
/// The file system's. Where there are no files, the log is empty.
pub fn last_lines(path: &Path, lines: u64) -> io::Result<u64> {
    retry_while_deleting(|| look_back(path, lines))
}

/// `None`: a part of the log was left out meanwhile.
fn look_back(path: &Path, lines: u64) -> io::Result<Option<u64>> {
    let extent = extent(path)?;
    let (end, gap) = (extent.end(), extent.gap());
    let (mut at, mut left) = (end, lines);
    while left > 0 && at > 0 {
        let floor = match gap {
            Some(gap) if at == gap.to => {
                at = gap.from;
                continue;
            }
            Some(gap) if at > gap.to => gap.to,
            _ => 0,
        };
        let start = at.saturating_sub(BLOCK_BYTES).max(floor);
        let Some(block) = block(path, start, at)? else { return Ok(None) };
        let newlines =
            (start..).zip(block).filter(|(_, byte)| *byte == b'\n').map(|(offset, _)| offset + 1);
        // What is behind each: a line, but behind the last byte.
        let mut begins: Vec<u64> = newlines.filter(|begin| *begin < end).collect();
        while let Some(begin) = begins.pop() {
            left -= 1;
            if left == 0 {
                return Ok(Some(begin));
            }
        }
        at = start;
    }
    Ok(Some(at))
}

/// Where the line begins in which `offset` is, on the log whose head is at `path`; at a line end,
/// behind it. Of a line whose beginning is left out, where what is kept of it begins; of one whose
/// beginning is not within [`MAX_LOOK_BYTES`], and in a gap, the offset itself.
///
/// # Errors
/// As [`last_lines`].
pub(crate) fn line_begin(path: &Path, offset: u64) -> io::Result<u64> {
    retry_while_deleting(|| look_for_begin(path, offset))
}

/// `None`: a part of the log was left out meanwhile.
fn look_for_begin(path: &Path, offset: u64) -> io::Result<Option<u64>> {
    let floor = match extent(path)?.gap() {
        Some(gap) if gap.past(offset) > offset => return Ok(Some(offset)),
        Some(gap) if offset >= gap.to => gap.to,
        _ => 0,
    };
    let lowest = offset.saturating_sub(MAX_LOOK_BYTES).max(floor);
    let mut at = offset;
    while at > lowest {
        let start = at.saturating_sub(BLOCK_BYTES).max(lowest);
        let Some(block) = block(path, start, at)? else { return Ok(None) };
        let newline = block.iter().rposition(|byte| *byte == b'\n');
        if let Some(begin) = newline.map(|index| start + index as u64 + 1) {
            return Ok(Some(begin));
        }
        at = start;
    }
    Ok(Some(if lowest > floor { offset } else { floor }))
}

/// Kept bytes from `start` to `end`; `None` if they are not kept any more.
fn block(path: &Path, start: u64, end: u64) -> io::Result<Option<Vec<u8>>> {
    let mut block: Vec<u8> = Vec::new();
    loop {
        let at = start + block.len() as u64;
        if at >= end {
            return Ok(Some(block));
        }
        let most = usize::try_from(end - at).unwrap_or(usize::MAX);
        let piece = read(path, at, most)?;
        if piece.from != at || piece.bytes.is_empty() {
            return Ok(None);
        }
        block.extend(piece.bytes);
    }
}
