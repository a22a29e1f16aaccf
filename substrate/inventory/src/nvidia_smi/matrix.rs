//! The matrix of `nvidia-smi topo -m`, between tabs and spaces, its heading underlined by escape
//! sequences also where nobody sees them:
//!
//! ```text
//!         GPU0    GPU1    NIC0    CPU Affinity    NUMA Affinity   GPU NUMA ID
//! GPU0     X      NV18    PXB     0-55,112-167    0               N/A
//! GPU1    NV18     X      NODE    0-55,112-167    0               N/A
//! ```

/// Most GPUs of one machine: no matrix is larger.
const MAX_GPUS: u32 = 256;

/// Pairs of GPUs, by their numbers, that NVLink connects, with how many links: each pair twice.
pub(super) fn nvlinks(text: &str) -> Vec<(u32, u32, u32)> {
    let text = without_escapes(text);
    let mut lines = text.lines();
    // Of the heading, the words before "CPU Affinity" are the columns.
    let heading = lines.find(|line| line.split_whitespace().next().and_then(gpu).is_some());
    let heading = heading.unwrap_or_default();
    let columns: Vec<Option<u32>> =
        heading.split_whitespace().take_while(|word| *word != "CPU").map(gpu).collect();
    let mut links = Vec::new();
    for line in lines {
        let mut words = line.split_whitespace();
        let Some(from) = words.next().and_then(gpu) else { continue };
        for (column, cell) in columns.iter().zip(words) {
            let lanes = cell.strip_prefix("NV").and_then(|lanes| lanes.parse::<u32>().ok());
            if let (Some(to), Some(lanes)) = (*column, lanes) {
                links.push((from, to, lanes));
            }
        }
    }
    links
}

fn gpu(word: &str) -> Option<u32> {
    word.strip_prefix("GPU")?.parse().ok().filter(|number| *number < MAX_GPUS)
}

/// Without `ESC [ … letter` (ECMA-48 5.4).
fn without_escapes(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(character) = rest.next() {
        if character == '\x1b' {
            rest.find(|c| c.is_ascii_alphabetic() || *c == '\n');
        } else {
            kept.push(character);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn links_are_read_from_the_matrix() {
        let text = "\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m\n\
                    GPU0\t X \tNV4\tSYS\tPXB\t0-31\t0\t\tN/A\n\
                    GPU1\tNV4\t X \tNV12\tNODE\t0-31\t0\t\tN/A\n\
                    GPU2\tSYS\tNV12\t X \tSYS\t32-63\t1\t\tN/A\n\
                    NIC0\tPXB\tNODE\tSYS\t X \t\t\t\n\nLegend:\n\n  X    = Self\n  NV#  = a bonded set of # NVLinks\n";
        assert_eq!(nvlinks(text), [(0, 1, 4), (1, 0, 4), (1, 2, 12), (2, 1, 12)]);
    }

    #[test]
    fn older_drivers_name_adapters_and_know_no_numa() {
        let text = "\tGPU0\tGPU1\tmlx5_0\tCPU Affinity\nGPU0\t X \tNV2\tPIX\t0-19\nGPU1\tNV2\t X \tPIX\t0-19\n\
                    mlx5_0\tPIX\tPIX\t X \t\n";
        assert_eq!(nvlinks(text), [(0, 1, 2), (1, 0, 2)]);
        assert_eq!(nvlinks("\tGPU0\tCPU Affinity\nGPU0\t X \t0-7\n"), []);
        assert_eq!(nvlinks("Failed to run topology matrix\n"), []);
    }

    proptest! {
        #[test]
        fn any_text_is_a_matrix(text in "(?s)(GPU|NV|[0-9]|\t|\n|\x1b|.){0,80}") {
            nvlinks(&text);
        }
    }
}
