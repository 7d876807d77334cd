//! Whether memory grows: the straight line that fits its samples best.

/// Resident bytes at a time.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub seconds: f64,
    pub bytes: f64,
}

/// Bytes a second, by least squares; 0 for fewer than two samples.
pub fn slope(samples: &[Sample]) -> f64 {
    let count = samples.len() as f64;
    let mean_x = samples.iter().map(|sample| sample.seconds).sum::<f64>() / count;
    let mean_y = samples.iter().map(|sample| sample.bytes).sum::<f64>() / count;
    let covariance: f64 =
        samples.iter().map(|sample| (sample.seconds - mean_x) * (sample.bytes - mean_y)).sum();
    let variance: f64 = samples.iter().map(|sample| (sample.seconds - mean_x).powi(2)).sum();
    if variance > 0.0 { covariance / variance } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_straight_line_has_its_slope_and_a_flat_one_none() {
        let line = |rise: f64| -> Vec<Sample> {
            (0..10).map(f64::from).map(|seconds| Sample { seconds, bytes: 5.0 + rise * seconds }).collect()
        };
        for rise in [0.0, 3.0, -2.0] {
            assert!((slope(&line(rise)) - rise).abs() < 1e-9, "{rise}");
        }
        assert_eq!((slope(&[]), slope(&line(1.0)[..1])), (0.0, 0.0));
    }
}
