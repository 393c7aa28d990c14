//! Parsers of values with units: `50ms`, `1%`, `20Mbit/s`, `64KiB`. An error shows a valid
//! example.

use std::time::Duration;

/// The number at the start of `text`, and the unit after it.
fn split(text: &str) -> Option<(f64, &str)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}

/// `text` as a number times its unit; a bare number only where `""` is a unit.
fn scaled(text: &str, units: &[(&str, f64)], example: &str) -> Result<f64, String> {
    let found = split(text).and_then(|(number, unit)| {
        let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
        Some(number * scale)
    });
    found.ok_or_else(|| format!("{text:?} is not understood: write it like {example}"))
}

/// Some 31 years. The clock cannot represent every longer time from now.
const LONGEST_TIME: f64 = 1e9;

/// A time: `50ms`, `2s`, `100us`.
pub fn time(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 4] = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("min", 60.0)];
    let seconds = scaled(text, &UNITS, "50ms, 2s or 100us")?;
    let time = Duration::try_from_secs_f64(seconds).ok();
    time.filter(|_| seconds <= LONGEST_TIME)
        .ok_or_else(|| format!("{text:?} is too long"))
}

/// A share of datagrams: `1%`, from 0 to 100.
pub fn share(text: &str) -> Result<f64, String> {
    let share = scaled(text, &[("%", 0.01)], "1% or 0.5%")?;
    if share <= 1.0 {
        Ok(share)
    } else {
        Err(format!("{text:?} is more than 100%"))
    }
}

/// Bytes a second, from bits a second: `20Mbit/s`.
pub fn rate(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 3] = [("kbit/s", 1e3), ("Mbit/s", 1e6), ("Gbit/s", 1e9)];
    let bits = scaled(text, &UNITS, "20Mbit/s or 500kbit/s")?;
    match (bits / 8.0) as u64 {
        0 => Err(format!("{text:?} lets nothing pass")),
        bytes => Ok(bytes),
    }
}

/// Bytes: `1200`, `64KiB`.
pub fn bytes(text: &str) -> Result<usize, String> {
    const UNITS: [(&str, f64); 3] = [("", 1.0), ("KiB", 1024.0), ("MiB", 1_048_576.0)];
    Ok(scaled(text, &UNITS, "1200 or 64KiB")? as usize)
}

/// When and for how long: `2s+500ms`.
pub fn period(text: &str) -> Result<(Duration, Duration), String> {
    let (at, lasts) = text
        .split_once('+')
        .ok_or_else(|| format!("{text:?} is not understood: write it like 2s+500ms"))?;
    Ok((time(at)?, time(lasts)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_their_units() {
        assert_eq!(time("50ms"), Ok(Duration::from_millis(50)));
        assert_eq!(time("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(time("100us"), Ok(Duration::from_micros(100)));
        assert_eq!(time("2min"), Ok(Duration::from_secs(120)));
        assert_eq!(share("1%"), Ok(0.01));
        assert_eq!(share("100%"), Ok(1.0));
        assert_eq!(rate("8Mbit/s"), Ok(1_000_000));
        assert_eq!(bytes("1200"), Ok(1200));
        assert_eq!(bytes("64KiB"), Ok(65_536));
        let two_and_a_half = (Duration::from_secs(2), Duration::from_millis(500));
        assert_eq!(period("2s+500ms"), Ok(two_and_a_half));
    }

    #[test]
    fn what_is_no_value_is_refused_with_an_example() {
        for wrong in ["", "50", "ms", "-1s", "1h", "1..2s", "NaNs", "1e400s"] {
            let error = time(wrong).expect_err(wrong);
            assert!(error.contains("50ms"), "{error}");
        }
        assert!(share("1").is_err());
        assert!(share("101%").is_err());
        assert!(rate("0Mbit/s").is_err());
        assert!(rate("5").is_err());
        assert!(bytes("5KB").is_err());
        assert!(period("2s").is_err());
        assert!(time("999999999999999999999999s").is_err());
        assert!(time("1000000000000000000s").is_err());
    }
}
