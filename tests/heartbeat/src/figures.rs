//! What is counted, a phone and a day, and what a table says of it.

/// One day of one phone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Day {
    /// Beats sent.
    pub beats: u32,
    /// Those over a cellular radio.
    pub cellular_beats: u32,
    /// What the radio used for beats and reconnects.
    pub joules: f64,
    /// Connections given up because a beat had no answer, and those reset.
    pub reconnects: u32,
    /// From the death of a connection to the next one.
    pub dead_s: f64,
    /// Messages for the phone.
    pub messages: u32,
    /// Those that met a dead connection.
    pub late_messages: u32,
    /// Delivery delays: by socket alone, and with the bridge.
    pub delays: Vec<(f32, f32)>,
}

impl Day {
    pub(crate) fn delivered(&mut self, socket_s: f64, bridge_s: f64) {
        self.delays.push((socket_s as f32, bridge_s as f32));
    }
}

/// Means over phones and days.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Beats a day.
    pub beats: f64,
    /// Those over a cellular radio.
    pub cellular_beats: f64,
    /// Joules a day.
    pub joules: f64,
    /// Reconnects a day.
    pub reconnects: f64,
    /// Dead seconds a day.
    pub dead_s: f64,
    /// Messages that met a dead connection, in percent.
    pub late_percent: f64,
    /// Mean and 99th percentile of the delay by socket alone, in seconds.
    pub socket_s: (f64, f64),
    /// The same with the bridge, and the longest.
    pub bridge_s: (f64, f64, f64),
}

impl Summary {
    /// The mean over these days.
    pub fn of<'a>(days: impl Iterator<Item = &'a Day> + Clone) -> Self {
        let count = days.clone().count().max(1) as f64;
        let mean = |figure: fn(&Day) -> f64| days.clone().map(figure).sum::<f64>() / count;
        let messages = mean(|day| f64::from(day.messages)).max(1e-9);
        let delays = |pick: fn(&(f32, f32)) -> f32| {
            let mut delays: Vec<f32> = days.clone().flat_map(|day| day.delays.iter().map(pick)).collect();
            delays.sort_unstable_by(f32::total_cmp);
            let mean = delays.iter().map(|delay| f64::from(*delay)).sum::<f64>() / delays.len().max(1) as f64;
            let at = |share: f64| {
                let at = (share * delays.len().saturating_sub(1) as f64) as usize;
                delays.get(at).copied().map_or(0.0, f64::from)
            };
            (mean, at(0.99), at(1.0))
        };
        let (socket, bridge) = (delays(|delay| delay.0), delays(|delay| delay.1));
        Self {
            beats: mean(|day| f64::from(day.beats)),
            cellular_beats: mean(|day| f64::from(day.cellular_beats)),
            joules: mean(|day| day.joules),
            reconnects: mean(|day| f64::from(day.reconnects)),
            dead_s: mean(|day| day.dead_s),
            late_percent: 100.0 * mean(|day| f64::from(day.late_messages)) / messages,
            socket_s: (socket.0, socket.1),
            bridge_s: bridge,
        }
    }
}
