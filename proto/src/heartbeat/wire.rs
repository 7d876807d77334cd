//! What devices and broker tell each other about heartbeats, as text: readable in a capture, alike in every language.
//!
//! A text is a list of fields `name=value`, with `;` between them. Names that are not known are skipped, so that later
//! releases can say more; a known name with a bad value makes the whole text worthless.

use super::{Gap, Quantiles};
use std::fmt::{self, Write};

/// User property of CONNACK that carries a [`Config`].
pub const CONFIG_PROPERTY: &str = "hb-cfg";
/// Topic on which the broker sends a [`Config`] to a device, without any subscription.
pub const CONFIG_TOPIC: &str = "$hb/cfg";
/// Topic on which a device sends a [`Report`], with QoS 1, instead of a PINGREQ.
pub const REPORT_TOPIC: &str = "$hb/up";

/// User properties of CONNECT.
const HELLO: &str = "hb";
const NETWORK: &str = "hb-net";
const LO: &str = "hb-lo";
const LATE: &str = "hb-late";
const HOPELESS: &str = "hb-hopeless";
/// The only version there is.
const VERSION: &str = "1";

/// No text of this file is longer; a longer one is not looked at.
const TEXT_MAX: usize = 256;
/// Observations in one report; older ones go first.
const OBSERVATIONS_MAX: usize = 8;

/// The kind of the last hop, which decides what a beat costs and what else the broker can tell apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Radio {
    /// Wireless LAN.
    Wifi,
    /// A cable.
    Ethernet,
    /// GSM, GPRS, EDGE.
    G2,
    /// UMTS, HSPA and their kin.
    G3,
    /// LTE.
    G4,
    /// NR.
    G5,
    /// The app does not know.
    #[default]
    Unknown,
}

impl Radio {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Wifi, Self::Ethernet, Self::G2, Self::G3, Self::G4, Self::G5, Self::Unknown];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wifi => "wifi",
            Self::Ethernet => "eth",
            Self::G2 => "2g",
            Self::G3 => "3g",
            Self::G4 => "4g",
            Self::G5 => "5g",
            Self::Unknown => "?",
        }
    }

    /// Reads the word; `None` for any other.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|radio| radio.as_str() == text)
    }
}

/// What tells networks of one radio apart: the operator's number (`46000`) or a hash of the Wi-Fi's name, never the name
/// itself. Up to 32 letters, digits, `-` and `_`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(String);

impl Label {
    /// Checks the text; an empty one stands for "not known".
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (text.len() <= 32 && text.chars().all(allowed)).then(|| Self(text.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The network a device is on, as far as its app knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// The last hop.
    pub radio: Radio,
    /// Which of them.
    pub label: Label,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.radio.as_str())?;
        if self.label.as_str().is_empty() { Ok(()) } else { write!(f, ",{}", self.label.as_str()) }
    }
}

impl Network {
    /// Reads `4g` or `4g,46000`.
    pub fn parse(text: &str) -> Option<Self> {
        let (radio, label) = text.split_once(',').unwrap_or((text, ""));
        Some(Self { radio: Radio::parse(radio)?, label: Label::parse(label)? })
    }
}

/// A device's first words: the user properties of CONNECT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Where it is.
    pub network: Network,
    /// The longest gap that it survived there, if it was there before.
    pub lo: Option<Gap>,
    /// How late 95 of 100 of its alarms ring at most, in seconds.
    pub late_s: u16,
    /// As far as it remembers, even a minute of silence kills the connection there. A report says so too, but on such a network
    /// it hardly ever arrives.
    pub is_hopeless: bool,
}

impl Hello {
    /// The properties to add to CONNECT.
    pub fn properties(&self) -> Vec<(String, String)> {
        let mut properties = vec![(HELLO, VERSION.to_owned()), (NETWORK, self.network.to_string())];
        properties.extend(self.lo.map(|lo| (LO, lo.0.to_string())));
        properties.push((LATE, self.late_s.to_string()));
        properties.extend(self.is_hopeless.then(|| (HOPELESS, "1".to_owned())));
        properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// Reads the user properties of a CONNECT. `None` for a client that speaks no heartbeat.
    ///
    /// A property with a bad value counts as absent; of several with one name the last counts.
    pub fn read<'a>(properties: impl IntoIterator<Item = (&'a str, &'a str)>) -> Option<Self> {
        let mut hello = Self::default();
        let mut speaks = false;
        for (name, value) in properties {
            match name {
                HELLO => speaks = value == VERSION,
                NETWORK => hello.network = bounded(value).and_then(Network::parse).unwrap_or_default(),
                LO => hello.lo = number(value).map(Gap),
                LATE => hello.late_s = number(value).unwrap_or(0),
                HOPELESS => hello.is_hopeless = value == "1",
                _ => {}
            }
        }
        speaks.then_some(hello)
    }
}

/// The broker's advice: property `hb-cfg` of CONNACK, and payload on `$hb/cfg`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// No interval may be longer; what MQTT 5 has as Server Keep Alive, for those who cannot see it.
    pub ceiling: Option<Gap>,
    /// What to use without any knowledge of one's own.
    pub stay: Option<Gap>,
    /// What the fleet found on this network.
    pub quantiles: Option<Quantiles>,
    /// For how long this holds, in seconds.
    pub ttl_s: u32,
    /// After a loss that is the server's doing, come back at a random time within this many seconds.
    pub window_s: u16,
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ceiling) = self.ceiling {
            write!(f, "ceiling={};", ceiling.0)?;
        }
        if let Some(stay) = self.stay {
            write!(f, "stay={};", stay.0)?;
        }
        if let Some(Quantiles(gaps)) = self.quantiles {
            write!(f, "q={};", joined(gaps.map(|gap| gap.0)))?;
        }
        write!(f, "ttl={};window={}", self.ttl_s, self.window_s)
    }
}

impl Config {
    /// Reads the text; `None` when it is no advice.
    pub fn parse(text: &str) -> Option<Self> {
        let mut config = Self::default();
        for (name, value) in fields(text)? {
            match name {
                "ceiling" => config.ceiling = Some(Gap(number(value)?)),
                "stay" => config.stay = Some(Gap(number(value)?)),
                "q" => config.quantiles = Some(quantiles(value)?),
                "ttl" => config.ttl_s = number(value)?,
                "window" => config.window_s = number(value)?,
                _ => {}
            }
        }
        Some(config)
    }
}

/// A device's news: payload on `$hb/up`. A client of MQTT 3.1.1, which has no properties, begins with one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The next packet comes within this time, and its lateness.
    pub next: Option<Gap>,
    /// As in [`Hello`].
    pub network: Network,
    /// As in [`Hello`].
    pub lo: Option<Gap>,
    /// As in [`Hello`].
    pub late_s: u16,
    /// What was seen since the last report, oldest first, at most eight.
    pub observations: Vec<Observation>,
    /// As in [`Hello`].
    pub is_hopeless: bool,
}

/// A silence and how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// How long nothing went in either direction.
    pub gap: Gap,
    /// Whether the connection lived.
    pub survived: bool,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(next) = self.next {
            write!(f, "next={};", next.0)?;
        }
        write!(f, "net={};", self.network)?;
        if let Some(lo) = self.lo {
            write!(f, "lo={};", lo.0)?;
        }
        if !self.observations.is_empty() {
            let newest = self.observations.len().saturating_sub(OBSERVATIONS_MAX);
            write!(f, "obs={};", joined(self.observations.iter().skip(newest)))?;
        }
        if self.is_hopeless {
            f.write_str("hopeless=1;")?;
        }
        write!(f, "late={}", self.late_s)
    }
}

impl fmt::Display for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.survived { '+' } else { '-' }, self.gap.0)
    }
}

impl Report {
    /// Reads the text; `None` when it is no report.
    pub fn parse(text: &str) -> Option<Self> {
        let mut report = Self::default();
        for (name, value) in fields(text)? {
            match name {
                "next" => report.next = Some(Gap(number(value)?)),
                "net" => report.network = Network::parse(value)?,
                "lo" => report.lo = Some(Gap(number(value)?)),
                "late" => report.late_s = number(value)?,
                "obs" => report.observations = observations(value)?,
                "hopeless" => report.is_hopeless = value == "1",
                _ => {}
            }
        }
        Some(report)
    }
}

fn fields(text: &str) -> Option<impl Iterator<Item = (&str, &str)>> {
    let fields = bounded(text)?.split(';').filter(|field| !field.is_empty());
    Some(fields.map(|field| field.split_once('=').unwrap_or((field, ""))))
}

fn bounded(text: &str) -> Option<&str> {
    (text.len() <= TEXT_MAX).then_some(text)
}

/// Digits only: Rust would take a sign, other languages other things.
fn number<N: std::str::FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn quantiles(text: &str) -> Option<Quantiles> {
    let mut gaps = [Gap(0); 5];
    let mut values = text.split(',');
    for gap in &mut gaps {
        *gap = Gap(number(values.next()?)?);
    }
    (values.next().is_none() && gaps.is_sorted()).then_some(Quantiles(gaps))
}

fn observations(text: &str) -> Option<Vec<Observation>> {
    let all: Option<Vec<_>> = text.split(',').take(OBSERVATIONS_MAX + 1).map(observation).collect();
    all.filter(|all| all.len() <= OBSERVATIONS_MAX)
}

fn observation(text: &str) -> Option<Observation> {
    let (survived, gap) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(gap), _) => (true, gap),
        (None, Some(gap)) => (false, gap),
        (None, None) => return None,
    };
    Some(Observation { gap: Gap(number(gap)?), survived })
}

fn joined(parts: impl IntoIterator<Item = impl fmt::Display>) -> String {
    parts.into_iter().fold(String::new(), |mut text, part| {
        if !text.is_empty() {
            text.push(',');
        }
        let _ = write!(text, "{part}"); // a String takes everything
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_texts_are_those_of_the_protocol_document() {
        let network = Network::parse("4g,46000").unwrap();
        let hello = Hello { network: network.clone(), lo: Some(Gap(300)), late_s: 4, is_hopeless: true };
        let properties = hello.properties();
        let shown: Vec<_> = properties.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(shown, ["hb=1", "hb-net=4g,46000", "hb-lo=300", "hb-late=4", "hb-hopeless=1"]);
        let config = Config {
            ceiling: Some(Gap(1_680)),
            stay: Some(Gap(270)),
            quantiles: Some(Quantiles([290, 300, 310, 900, 1_800].map(Gap))),
            ttl_s: 86_400,
            window_s: 30,
        };
        assert_eq!(config.to_string(), "ceiling=1680;stay=270;q=290,300,310,900,1800;ttl=86400;window=30");
        let report = Report {
            next: Some(Gap(420)),
            network,
            lo: Some(Gap(300)),
            late_s: 4,
            observations: vec![
                Observation { gap: Gap(300), survived: true },
                Observation { gap: Gap(480), survived: false },
            ],
            is_hopeless: false,
        };
        assert_eq!(report.to_string(), "next=420;net=4g,46000;lo=300;obs=+300,-480;late=4");
    }

    #[test]
    fn what_is_no_such_text_is_refused_and_what_is_new_is_skipped() {
        for bad in [
            "stay=",
            "stay=-1",
            "stay=+1",
            "stay=65536",
            "q=1,2,3,4",
            "q=1,2,3,4,5,6",
            "q=5,4,3,2,1",
            "ttl=99999999999",
        ] {
            assert_eq!(Config::parse(bad), None, "{bad}");
        }
        for bad in ["net=6g", "net=4g,a b", "obs=300", "obs=+1,+2,+3,+4,+5,+6,+7,+8,+9", "obs="] {
            assert_eq!(Report::parse(bad), None, "{bad}");
        }
        assert_eq!(Config::parse(&"x;".repeat(200)), None, "too long");
        assert_eq!(Config::parse("colour=blue;ttl=5;;x"), Some(Config { ttl_s: 5, ..Config::default() }));
        assert_eq!(Report::parse(""), Some(Report::default()));
    }

    #[test]
    fn a_client_that_does_not_say_so_speaks_no_heartbeat() {
        assert_eq!(Hello::read([("hb-net", "4g")]), None);
        assert_eq!(Hello::read([("hb", "2")]), None);
        let hello = Hello::read([("hb", "1"), ("hb-net", "nonsense"), ("hb-lo", "x"), ("hb-late", "7")]);
        assert_eq!(hello, Some(Hello { late_s: 7, ..Hello::default() }));
    }

    fn network() -> impl Strategy<Value = Network> {
        let radio = (0..Radio::ALL.len()).prop_map(|at| Radio::ALL.get(at).copied().unwrap_or_default());
        (radio, "[a-zA-Z0-9_-]{0,32}").prop_map(|(radio, label)| Network { radio, label: Label(label) })
    }

    fn gap() -> impl Strategy<Value = Gap> {
        any::<u16>().prop_map(Gap)
    }

    fn report() -> impl Strategy<Value = Report> {
        let observation = (gap(), any::<bool>()).prop_map(|(gap, survived)| Observation { gap, survived });
        let observations = prop::collection::vec(observation, 0..=OBSERVATIONS_MAX);
        let parts = (proptest::option::of(gap()), network(), proptest::option::of(gap()), any::<u16>());
        (parts, observations, any::<bool>()).prop_map(
            |((next, network, lo, late_s), observations, is_hopeless)| Report {
                next,
                network,
                lo,
                late_s,
                observations,
                is_hopeless,
            },
        )
    }

    fn config() -> impl Strategy<Value = Config> {
        let quantiles = any::<[u16; 5]>().prop_map(|mut gaps| {
            gaps.sort_unstable();
            Quantiles(gaps.map(Gap))
        });
        let gaps = (proptest::option::of(gap()), proptest::option::of(gap()));
        (gaps, proptest::option::of(quantiles), any::<u32>(), any::<u16>()).prop_map(
            |((ceiling, stay), quantiles, ttl_s, window_s)| Config {
                ceiling,
                stay,
                quantiles,
                ttl_s,
                window_s,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            report in report(), config in config(), network in network(), lo in proptest::option::of(gap()), late_s: u16,
            is_hopeless: bool,
        ) {
            prop_assert!(report.to_string().len() <= TEXT_MAX && config.to_string().len() <= TEXT_MAX);
            prop_assert_eq!(Report::parse(&report.to_string()), Some(report));
            prop_assert_eq!(Config::parse(&config.to_string()), Some(config));
            let hello = Hello { network, lo, late_s, is_hopeless };
            let properties = hello.properties();
            let pairs = properties.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            prop_assert_eq!(Hello::read(pairs), Some(hello));
        }

        #[test]
        fn no_text_panics(text in ".{0,300}", fielded in "[a-z]{1,6}=[-+,0-9;]{0,40}") {
            let _ = (Report::parse(&text), Config::parse(&text), Network::parse(&text), Hello::read([("hb-net", text.as_str())]));
            let _ = (Report::parse(&fielded), Config::parse(&fielded));
        }
    }
}
