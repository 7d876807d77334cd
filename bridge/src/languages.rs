//! Which of a message's languages a device gets. Pure.

use std::collections::BTreeMap;

/// Longest name of a language, in bytes.
const NAME_MAX: usize = 35;
/// Longest part of one, in bytes. [BCP47-2.1]
const PART_MAX: usize = 8;
/// What stands for every language that has no texts of its own.
pub(crate) const DEFAULT: &str = "default";

/// Whether a text names a language as devices do: `pt`, `pt-BR`, `zh-Hans-CN`.
pub(crate) fn is_language(text: &str) -> bool {
    let is_part = |part: &str| {
        (1..=PART_MAX).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    let begins_well = text.split('-').next().is_some_and(|first| {
        (2..=3).contains(&first.len()) && first.bytes().all(|byte| byte.is_ascii_alphabetic())
    });
    text.len() <= NAME_MAX && begins_well && text.split('-').all(is_part)
}

/// The most particular language that there is for somebody who wants `wanted`: `pt-BR`, else `pt`, else none, which
/// means the default. Case does not matter, and `pt_BR` means `pt-BR`.
pub(crate) fn best<'t, T>(texts: &'t BTreeMap<String, T>, wanted: &str) -> Option<&'t str> {
    let wanted = wanted.replace('_', "-");
    general_from(&wanted)
        .find_map(|name| texts.keys().find(|known| known.eq_ignore_ascii_case(name)).map(String::as_str))
}

/// The texts of a language and of the more general ones, the most particular first.
pub(crate) fn chain<'t, T>(texts: &'t BTreeMap<String, T>, language: &'t str) -> impl Iterator<Item = &'t T> {
    general_from(language).filter_map(|name| {
        texts.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, text)| text)
    })
}

/// `zh-Hans-CN`, `zh-Hans`, `zh`.
fn general_from(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.rsplit_once('-').map(|(general, _)| general))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(names: &[&str]) -> BTreeMap<String, String> {
        names.iter().map(|name| ((*name).to_owned(), (*name).to_owned())).collect()
    }

    #[test]
    fn a_device_gets_its_own_language_else_a_more_general_one_else_the_default() {
        let texts = texts(&["en", "pt", "pt-BR", "zh-Hans", "zh-TW"]);
        for (wanted, found) in [
            ("pt-BR", Some("pt-BR")),
            ("pt_br", Some("pt-BR")),
            ("pt-PT", Some("pt")),
            ("en-Latn-US", Some("en")),
            ("zh-Hans-CN", Some("zh-Hans")),
            ("zh-CN", None),
            ("fr", None),
            ("", None),
            ("p", None),
            ("-", None),
        ] {
            assert_eq!(best(&texts, wanted), found, "{wanted}");
        }
        assert_eq!(chain(&texts, "pt-BR").collect::<Vec<_>>(), ["pt-BR", "pt"]);
    }

    #[test]
    fn names_of_languages_are_told_from_other_texts() {
        for (text, wanted) in [
            ("pt", true),
            ("pt-BR", true),
            ("zh-Hans-CN", true),
            ("fil", true),
            ("es-419", true),
            ("", false),
            ("p", false),
            ("default", false),
            ("pt_BR", false),
            ("pt-", false),
            ("english", false),
            ("de-Österreich", false),
        ] {
            assert_eq!(is_language(text), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_found_is_there_and_begins_what_was_wanted(
            names in prop::collection::vec("[a-z]{2}(-[A-Z]{2})?", 0..5), wanted in "[a-z]{2}([-_][a-zA-Z]{2,4}){0,2}"
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let texts = texts(&names);
            match best(&texts, &wanted) {
                Some(found) => {
                    let wanted = wanted.replace('_', "-").to_ascii_lowercase();
                    prop_assert!(names.contains(&found));
                    let found = found.to_ascii_lowercase();
                    prop_assert!([wanted, "-".to_owned()].concat().starts_with(&[found, "-".to_owned()].concat()));
                }
                None => prop_assert!(!names.contains(&wanted.as_str())),
            }
        }
    }
}
