//! `wrk`: its arguments, and what it prints.

use anyhow::{Context as _, bail};

/// One thread, 32 connections that are kept.
pub(super) fn arguments(url: &str, token: &str, seconds: u32) -> Vec<String> {
    let authorization = format!("Authorization: Bearer {token}");
    let duration = format!("{seconds}s");
    ["-t1", "-c32", "-d", &duration, "-H", &authorization, url].map(str::to_owned).to_vec()
}

/// Its rate, if every answer was a success.
///
/// # Errors
/// If one was not, or it printed no rate.
pub(super) fn requests_per_second(printed: &str) -> anyhow::Result<f64> {
    let wrong = printed.lines().find(|line| {
        let line = line.trim();
        line.starts_with("Non-2xx") || line.starts_with("Socket errors")
    });
    if let Some(wrong) = wrong {
        bail!("wrk: {}", wrong.trim());
    }
    let rate = printed.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:"));
    rate.context("wrk printed no rate")?.trim().parse().context("wrk's rate is no number")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPTURED: &str = "Running 1s test @ http://127.0.0.1:18080/script
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   361.90us  185.21us   6.11ms   92.31%
    Req/Sec    80.50k     4.11k   86.32k    70.00%
  80208 requests in 1.00s, 334.00MB read
Requests/sec:  80208.31
Transfer/sec:    333.89MB
";

    #[test]
    fn the_rate_counts_only_without_failures() {
        assert_eq!(requests_per_second(CAPTURED).unwrap(), 80208.31);
        let failed = format!("{CAPTURED}  Non-2xx or 3xx responses: 3\n");
        assert_eq!(
            requests_per_second(&failed).unwrap_err().to_string(),
            "wrk: Non-2xx or 3xx responses: 3"
        );
        assert!(requests_per_second("unable to connect").is_err());
    }
}
