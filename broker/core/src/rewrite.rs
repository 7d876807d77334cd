//! Topics that go elsewhere: a filter whose wildcards capture, and a template that uses what they captured.
//!
//! ```text
//!   from = "车间/+/温度/#"      车间/7/温度/a/b  captures  $1 = 7, $2 = a/b
//!   to   = "plant/$1/t/$2"      becomes  plant/7/t/a/b
//! ```

use reveille_proto::ids::AppId;
use reveille_proto::topic::{TopicError, TopicFilter, TopicName};
use smallvec::SmallVec;

/// One rule. Of several that match, the first one applies, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    app: AppId,
    from: TopicFilter,
    to: Vec<Piece>,
    applies: Applies,
}

/// To what a rule applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applies {
    /// To topics that clients publish to.
    Publish,
    /// To filters that clients subscribe to and unsubscribe from.
    Subscribe,
    /// To both.
    Both,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Capture(usize),
}

/// Why a rule is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// A capture that the filter does not make.
    #[error("the template uses ${0}, and the filter has not so many wildcards")]
    NoSuchCapture(usize),
    /// The result would not be a topic.
    #[error("the template has a wildcard of its own, is empty, or begins with $")]
    Template,
    /// `$` topics mean something.
    #[error("topics that begin with $ are not rewritten")]
    System,
}

type Captures<'a> = SmallVec<[Option<&'a str>; 8]>;

impl Rewrite {
    /// Checks the rule once.
    ///
    /// # Errors
    /// [`RewriteError`] says what is wrong with it.
    pub fn new(app: AppId, from: TopicFilter, to: &str, applies: Applies) -> Result<Self, RewriteError> {
        if from.as_str().starts_with('$') {
            return Err(RewriteError::System);
        }
        let to = pieces(to);
        let is_system = matches!(to.first(), Some(Piece::Text(text)) if text.starts_with('$'));
        let has_wildcard =
            |piece: &Piece| matches!(piece, Piece::Text(text) if text.contains(['+', '#', '\0']));
        if to.is_empty() || is_system || to.iter().any(has_wildcard) {
            return Err(RewriteError::Template);
        }
        let count = from.levels().filter(|level| matches!(*level, "+" | "#")).count();
        let too_high = to.iter().find_map(|piece| match piece {
            Piece::Capture(number) if *number == 0 || *number > count => Some(*number),
            Piece::Capture(_) | Piece::Text(_) => None,
        });
        match too_high {
            Some(number) => Err(RewriteError::NoSuchCapture(number)),
            None => Ok(Self { app, from, to, applies }),
        }
    }

    fn of(&self, app: &AppId, other: Applies) -> bool {
        self.app == *app && (self.applies == Applies::Both || self.applies == other)
    }

    fn rewrite(&self, text: &str) -> Option<String> {
        let captures = captures(&self.from, text)?;
        let mut rewritten = String::with_capacity(text.len());
        for piece in &self.to {
            match piece {
                Piece::Text(text) => rewritten.push_str(text),
                Piece::Capture(number) => match captures.get(number.saturating_sub(1)) {
                    Some(Some(capture)) => rewritten.push_str(capture),
                    // `a/#` saw `a`: there is nothing behind the slash, so there is no slash.
                    _ if rewritten.ends_with('/') => drop(rewritten.pop()),
                    _ => {}
                },
            }
        }
        Some(rewritten)
    }
}

/// Where a message on this topic goes; `None`: where it was sent to.
///
/// # Errors
/// The rule makes something of it that is no topic name.
pub fn rewrite_topic(
    rules: &[Rewrite],
    app: &AppId,
    topic: &TopicName,
) -> Result<Option<TopicName>, TopicError> {
    if topic.as_str().starts_with('$') {
        return Ok(None);
    }
    let mut rules = rules.iter().filter(|rule| rule.of(app, Applies::Publish));
    rules.find_map(|rule| rule.rewrite(topic.as_str())).map(TopicName::parse).transpose()
}

/// What a client subscribes to instead; `None`: to what it asked for. Its wildcards are captured like any level, a `#`
/// by a `#` only: else it would see less than it asked for.
///
/// # Errors
/// The rule makes something of it that is no topic filter.
pub fn rewrite_filter(
    rules: &[Rewrite],
    app: &AppId,
    filter: &TopicFilter,
) -> Result<Option<TopicFilter>, TopicError> {
    if filter.as_str().starts_with('$') {
        return Ok(None);
    }
    let mut rules = rules.iter().filter(|rule| rule.of(app, Applies::Subscribe));
    rules.find_map(|rule| rule.rewrite(filter.as_str())).map(TopicFilter::parse).transpose()
}

fn captures<'a>(from: &TopicFilter, text: &'a str) -> Option<Captures<'a>> {
    let mut captures = Captures::new();
    let mut rest = Some(text);
    for wanted in from.levels() {
        if wanted == "#" {
            captures.push(rest);
            return Some(captures);
        }
        let (level, behind) = match rest?.split_once('/') {
            Some((level, behind)) => (level, Some(behind)),
            None => (rest?, None),
        };
        match wanted {
            "+" if level != "#" => captures.push(Some(level)),
            same if same == level => {}
            _ => return None,
        }
        rest = behind;
    }
    rest.is_none().then_some(captures)
}

/// `$1` to `$99` are captures, everything else is text.
fn pieces(template: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = template.chars().peekable();
    while let Some(letter) = rest.next() {
        let mut number = 0;
        let mut digits = 0;
        while letter == '$'
            && digits < 2
            && let Some(digit) = rest.peek().and_then(|next| next.to_digit(10))
        {
            number = number * 10 + digit as usize;
            digits += 1;
            rest.next();
        }
        if digits == 0 {
            text.push(letter);
            continue;
        }
        if !text.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut text)));
        }
        pieces.push(Piece::Capture(number));
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(from: &str, to: &str) -> Result<Rewrite, RewriteError> {
        let from = TopicFilter::parse(from).unwrap();
        Rewrite::new(AppId::default(), from, to, Applies::Both)
    }

    fn topic(from: &str, to: &str, text: &str) -> Option<String> {
        let topic = TopicName::parse(text.to_owned()).unwrap();
        let rewritten = rewrite_topic(&[rule(from, to).unwrap()], &AppId::default(), &topic).unwrap();
        rewritten.map(|topic| topic.to_string())
    }

    #[test]
    fn a_topic_goes_where_the_first_rule_that_matches_says() {
        let rows = [
            ("车间/+/温度/#", "plant/$1/t/$2", "车间/7/温度/a/b", Some("plant/7/t/a/b")),
            ("车间/+/温度/#", "plant/$1/t/$2", "车间/7/温度", Some("plant/7/t")),
            ("a/+", "b/$1", "a/", Some("b/")),
            ("a/+", "b/$1", "a/x/y", None),
            ("a/+", "b/$1", "a", None),
            ("+/+", "$2/$1", "x/y", Some("y/x")),
            ("a", "b$", "a", Some("b$")),
            ("#", "all/$1", "x/y", Some("all/x/y")),
            ("#", "all/$1", "$SYS/x", None),
        ];
        for (from, to, text, wanted) in rows {
            assert_eq!(topic(from, to, text).as_deref(), wanted, "{from} {to} {text}");
        }
    }

    #[test]
    fn a_filter_keeps_its_wildcards() {
        let rows = [
            ("old/+/x", "new/$1/x", "old/+/x", Some(Ok("new/+/x"))),
            ("old/+/x", "new/$1/x", "old/7/x", Some(Ok("new/7/x"))),
            ("old/#", "new/$1", "old/#", Some(Ok("new/#"))),
            ("old/#", "new/$1", "old/+/#", Some(Ok("new/+/#"))),
            ("old/+", "new/$1", "old/#", None),
            ("old/#", "new/$1/end", "old/#", Some(Err(TopicError::MisplacedWildcard))),
        ];
        for (from, to, text, wanted) in rows {
            let filter = TopicFilter::parse(text).unwrap();
            let got = rewrite_filter(&[rule(from, to).unwrap()], &AppId::default(), &filter);
            let got = got.map(|filter| filter.map(|filter| filter.to_string())).transpose();
            let wanted = wanted.map(|wanted| wanted.map(str::to_owned));
            assert_eq!(got, wanted, "{from} {to} {text}");
        }
    }

    #[test]
    fn a_rule_is_of_one_app_and_one_direction() {
        let from = TopicFilter::parse("a").unwrap();
        let rule = Rewrite::new(AppId::default(), from, "b", Applies::Subscribe).unwrap();
        let (topic, filter) = (TopicName::parse("a").unwrap(), TopicFilter::parse("a").unwrap());
        let other = AppId::parse("other").unwrap();
        let rules = [rule];
        assert_eq!(rewrite_topic(&rules, &AppId::default(), &topic), Ok(None));
        assert_eq!(rewrite_filter(&rules, &other, &filter), Ok(None));
        assert!(rewrite_filter(&rules, &AppId::default(), &filter).unwrap().is_some());
    }

    #[test]
    fn what_could_never_work_is_refused() {
        for (from, to, wanted) in [
            ("a/+", "b/$2", RewriteError::NoSuchCapture(2)),
            ("a", "b/$0", RewriteError::NoSuchCapture(0)),
            ("a", "b/+", RewriteError::Template),
            ("a", "", RewriteError::Template),
            ("a", "$SYS/x", RewriteError::Template),
            ("$SYS/#", "b", RewriteError::System),
        ] {
            assert_eq!(rule(from, to), Err(wanted), "{from} {to}");
        }
    }
}
