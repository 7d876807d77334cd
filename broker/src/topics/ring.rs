//! The last values of one topic, and what they were over steps of time. Pure.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use utoipa::ToSchema;

/// A value and when it came, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct Point {
    pub(crate) at_ms: u64,
    pub(crate) value: f64,
}

/// What stands for the values of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aggregate {
    #[default]
    Last,
    Avg,
    Min,
    Max,
}

/// The last values, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Ring {
    points: VecDeque<Point>,
}

impl Ring {
    /// Adds a value; at the bound the oldest goes. Clocks may step back, the order of arrival stays.
    pub(crate) fn push(&mut self, point: Point, points_max: usize) {
        while self.points.len() >= points_max.max(1) {
            self.points.pop_front();
        }
        self.points.push_back(point);
    }

    /// The newest.
    pub(crate) fn last(&self) -> Option<Point> {
        self.points.back().copied()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.points.len()
    }

    /// The values from a moment to before another; with a step one for each that has any, under the step's beginning.
    pub(crate) fn series(
        &self,
        from_ms: u64,
        to_ms: u64,
        step_ms: Option<u64>,
        how: Aggregate,
    ) -> Vec<Point> {
        let meant = self.points.iter().filter(|point| (from_ms..to_ms).contains(&point.at_ms));
        let Some(step_ms) = step_ms.filter(|step_ms| *step_ms > 0) else { return meant.copied().collect() };
        let mut steps: std::collections::BTreeMap<u64, Step> = std::collections::BTreeMap::new();
        for point in meant {
            steps.entry(point.at_ms - point.at_ms % step_ms).or_default().add(point.value);
        }
        steps.into_iter().map(|(at_ms, step)| Point { at_ms, value: step.value(how) }).collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct Step {
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
    last: f64,
}

impl Default for Step {
    fn default() -> Self {
        Self { count: 0.0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY, last: 0.0 }
    }
}

impl Step {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        self.sum += value;
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.last = value;
    }

    fn value(&self, how: Aggregate) -> f64 {
        match how {
            Aggregate::Last => self.last,
            // A sum that is too large for a number says nothing of the average.
            Aggregate::Avg if self.sum.is_finite() => self.sum / self.count,
            Aggregate::Avg => f64::midpoint(self.min, self.max),
            Aggregate::Min => self.min,
            Aggregate::Max => self.max,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn point(at_ms: u64, value: f64) -> Point {
        Point { at_ms, value }
    }

    fn ring(points: &[(u64, f64)]) -> Ring {
        let mut ring = Ring::default();
        points.iter().for_each(|(at_ms, value)| ring.push(point(*at_ms, *value), 100));
        ring
    }

    #[test]
    fn a_step_shows_its_last_average_least_or_greatest_value_and_an_empty_one_nothing() {
        let ring = ring(&[(10, 1.0), (12, 3.0), (19, 2.0), (31, 7.0)]);
        for (how, wanted) in
            [(Aggregate::Last, 2.0), (Aggregate::Avg, 2.0), (Aggregate::Min, 1.0), (Aggregate::Max, 3.0)]
        {
            assert_eq!(ring.series(0, 100, Some(10), how), [point(10, wanted), point(30, 7.0)], "{how:?}");
        }
        assert_eq!(ring.series(12, 31, None, Aggregate::Last), [point(12, 3.0), point(19, 2.0)]);
        assert_eq!(ring.series(12, 31, Some(10), Aggregate::Min), [point(10, 2.0)]);
        assert_eq!(ring.series(50, 40, None, Aggregate::Last), []);
    }

    proptest! {
        #[test]
        fn a_ring_keeps_the_newest_and_its_steps_lie_within_what_they_stand_for(
            values in prop::collection::vec((0_u64..1_000, -1e300_f64..1e300), 1..200),
            points_max in 1_usize..50,
            step_ms in 1_u64..300,
        ) {
            let mut ring = Ring::default();
            for (at_ms, value) in &values {
                ring.push(point(*at_ms, *value), points_max);
            }
            let kept = &values[values.len().saturating_sub(points_max)..];
            prop_assert_eq!(ring.len(), kept.len());
            let all = ring.series(0, u64::MAX, None, Aggregate::Last);
            prop_assert_eq!(all, kept.iter().map(|(at_ms, value)| point(*at_ms, *value)).collect::<Vec<_>>());
            let [min, avg, max] = [Aggregate::Min, Aggregate::Avg, Aggregate::Max]
                .map(|how| ring.series(0, u64::MAX, Some(step_ms), how));
            prop_assert_eq!(min.len(), max.len());
            for ((min, avg), max) in min.iter().zip(&avg).zip(&max) {
                prop_assert!(min.at_ms % step_ms == 0 && min.at_ms == max.at_ms);
                let slack = 1e-9 * (min.value.abs() + max.value.abs());
                prop_assert!(min.value <= avg.value + slack && avg.value <= max.value + slack);
            }
        }
    }
}
