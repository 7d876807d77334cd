//! The language is read as it is written, refused with the place, and read in chunks as it is as a whole.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::expression::{Bound, Comparison, Expression, Field, Match, TESTS_MAX, Version};
use super::*;
use crate::devices::Device;
use crate::store::Store;

/// Any expression that the parser can make.
pub(crate) fn any_expression() -> impl Strategy<Value = Expression> {
    let test = prop_oneof![
        Just(Expression::All),
        Just(Expression::Online),
        (any_field(), any_match()).prop_map(|(field, wanted)| Expression::Has(field, wanted)),
        (any_comparison(), "[0-9]{1,3}(\\.[1-9]){0,3}").prop_map(|(comparison, text)| {
            let field = Field::Attribute("app_version".to_owned());
            Expression::Compare(field, comparison, Bound::Version(Version::strict(&text).unwrap()))
        }),
        (any_comparison(), -5.0..5.0_f64).prop_map(|(comparison, number)| {
            Expression::Compare(Field::Attribute("level".to_owned()), comparison, Bound::Number(number))
        }),
        (any_comparison(), 0..100_u64)
            .prop_map(|(comparison, hours)| { Expression::LastSeen(comparison, hours * 3600) }),
        any_text().prop_map(Expression::Device),
        "[a-z0-9._-]{1,8}".prop_map(Expression::Segment),
    ];
    test.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|set| Expression::Not(Box::new(set))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::And),
            prop::collection::vec(inner, 2..4).prop_map(Expression::Or),
        ]
    })
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof!["[a-d]{1,2}", "\\PC{1,6}", "[ -~]{1,6}"]
}

fn any_field() -> impl Strategy<Value = Field> {
    prop_oneof![
        Just(Field::Tag),
        Just(Field::Attribute("city".to_owned())),
        Just(Field::Attribute("language".to_owned())),
        any_text().prop_map(Field::Alias),
    ]
}

fn any_match() -> impl Strategy<Value = Match> {
    let start = prop_oneof![Just(String::new()), any_text()];
    prop_oneof![any_text().prop_map(Match::Exactly), start.prop_map(Match::StartsWith)]
}

fn any_comparison() -> impl Strategy<Value = Comparison> {
    prop_oneof![
        Just(Comparison::Less),
        Just(Comparison::AtMost),
        Just(Comparison::Greater),
        Just(Comparison::AtLeast),
    ]
}

proptest! {
    #[test]
    fn an_expression_reads_as_it_is_written(expression in any_expression()) {
        let text = expression.to_string();
        prop_assert_eq!(Expression::parse(&text), Ok(expression), "{}", text);
    }

    #[test]
    fn any_text_is_an_expression_or_an_error_within_it(
        text in prop_oneof!["\\PC{0,40}", "[a-c:!&|()<>=*.\"\\\\ 0-9d]{0,40}", "tag:(a|b)[&|!() ]{0,70}"],
    ) {
        match Expression::parse(&text) {
            Ok(expression) => {
                prop_assert_eq!(Expression::parse(&expression.to_string()), Ok(expression));
            }
            Err(ExpressionError::Expected { at, .. } | ExpressionError::TooDeep { at }) => {
                prop_assert!((1..=text.chars().count() + 1).contains(&at), "{} in {}", at, text);
            }
            Err(error) => prop_assert!(false, "{}", error),
        }
    }
}

#[test]
fn an_expression_is_understood_and_written_in_one_way() {
    for (text, written) in [
        ("all", "all"),
        ("tag:vip&(city:bj|city:sh)&!platform:ios", "tag:vip & (city:bj | city:sh) & !platform:ios"),
        ("tag:a & tag:b | tag:c", "tag:a & tag:b | tag:c"),
        ("(tag:a & tag:b) | tag:c", "tag:a & tag:b | tag:c"),
        ("tag:a & (tag:b | tag:c)", "tag:a & (tag:b | tag:c)"),
        ("!(tag:a)", "!tag:a"),
        ("! ! online", "!!online"),
        ("lang:zh*", "language:zh*"),
        ("user:42 | alias.crm:a-7 | alias.user:7", "user:42 | alias.crm:a-7 | user:7"),
        ("tag:city:bj", "tag:city:bj"),
        ("tag : \"a b\"", "tag:\"a b\""),
        ("tag:\"a\\\"b\\\\c\"*", "tag:\"a\\\"b\\\\c\"*"),
        ("tag:\"vip\"", "tag:vip"),
        ("vendor:*", "vendor:*"),
        ("app_version >= 3.2.0", "app_version>=3.2"),
        ("level < -1.50", "level<-1.5"),
        ("last_seen < 14d", "last_seen<2w"),
        ("last_seen>=90m", "last_seen>=90m"),
        ("device:设备/1 | segment:big.spenders", "device:设备/1 | segment:big.spenders"),
        ("timezone:Asia/Shanghai", "timezone:Asia/Shanghai"),
    ] {
        assert_eq!(Expression::parse(text).map(|read| read.to_string()), Ok(written.to_owned()), "{text}");
    }
}

#[test]
fn an_error_says_where_and_what_was_expected() {
    for (text, wanted) in [
        (
            "",
            "at character 1: expected `(`, `!`, all, online, or a key such as tag, user, platform or last_seen, found the end",
        ),
        ("tag", "at character 4: expected `:`, found the end"),
        ("tag:", "at character 5: expected a value, or `*` for any, found the end"),
        (
            "tag:vip &",
            "at character 10: expected `(`, `!`, all, online, or a key such as tag, user, platform or last_seen, found the end",
        ),
        ("tag:vip tag:b", "at character 9: expected `&`, `|` or the end, found `tag:b`"),
        ("(tag:vip", "at character 9: expected `&`, `|` or `)`, found the end"),
        (
            "tag:城市 | Tag:x",
            "at character 10: expected `(`, `!`, all, online, or a key such as tag, user, platform or last_seen, found `Tag:x`",
        ),
        ("tag:a*b", "at character 7: expected `&`, `|` or the end, found `b`"),
        ("city bj", "at character 6: expected `:`, `<`, `<=`, `>` or `>=`, found `bj`"),
        ("level>much", "at character 7: expected a number, found `much`"),
        ("level>inf", "at character 7: expected a number, found `inf`"),
        ("app_version>=3.x", "at character 14: expected a version such as 3.2, found `3.x`"),
        ("last_seen:7d", "at character 10: expected `<`, `<=`, `>` or `>=`, found `:7d`"),
        ("last_seen<7", "at character 11: expected an age such as 30m, 12h, 7d or 2w, found `7`"),
        ("vendor:pager", "at character 8: expected a vendor such as apns, fcm or huawei, found `pager`"),
        ("segment:a/b", "at character 9: expected the name of a segment, found `a/b`"),
        ("alias:x", "at character 6: expected `.` and the type of the alias, found `:x`"),
        ("tag:\"open", "at character 10: expected `\"` at the end of the value, found the end"),
    ] {
        let error = Expression::parse(text).map_err(|error| error.to_string());
        assert_eq!(error, Err(wanted.to_owned()), "{text}");
    }
    let deep = format!("{}all{}", "(".repeat(33), ")".repeat(33));
    assert_eq!(Expression::parse(&deep), Err(ExpressionError::TooDeep { at: 33 }));
    assert!(Expression::parse(&format!("{}all{}", "(".repeat(32), ")".repeat(32))).is_ok());
    assert_eq!(Expression::parse(&"!".repeat(10_000)), Err(ExpressionError::TooDeep { at: 33 }));
    let many = vec!["all"; TESTS_MAX + 1].join("|");
    assert!(matches!(Expression::parse(&many), Err(ExpressionError::TooMany { .. })));
    assert_eq!(Expression::parse(&" ".repeat(20_000)), Err(ExpressionError::TooLong));
}

#[test]
fn versions_are_compared_by_their_numbers() {
    let bound = |text: &str| Bound::Version(Version::strict(text).unwrap());
    for (value, at, wanted) in [
        ("3.10", "3.9", Some(true)),
        ("3.2", "3.2.0", Some(true)),
        ("3.2.0-beta.1", "3.2", Some(true)),
        ("3.1.9", "3.2", Some(false)),
        ("4", "3.2", Some(true)),
        ("beta", "3.2", None),
        ("", "3.2", None),
        ("3.", "3", Some(true)),
    ] {
        let holds = bound(at).order_of(value).map(|order| Comparison::AtLeast.holds(order));
        assert_eq!(holds, wanted, "{value} >= {at}");
    }
    assert_eq!(Bound::Number(2.0).order_of("10"), Some(std::cmp::Ordering::Greater));
    assert_eq!(Bound::Number(2.0).order_of("NaN"), None);
}

#[tokio::test]
async fn a_chunked_audience_names_the_same_devices_as_a_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(|| 1)).unwrap();
    let app = AppId::default();
    let for_write = app.clone();
    let write = move |tx: &mut Tx<'_>| {
        for n in 0..20 {
            let mut device = Device { id: format!("设备-{n:02}"), ..Device::default() };
            if n % 2 == 0 {
                device.tags.insert("vip".to_owned());
            }
            device.alias.insert("user".to_owned(), format!("{}", n / 5));
            devices::save(tx, &for_write, &device)?;
        }
        Ok::<_, StoreError>(())
    };
    store.write(write).await.unwrap();
    let list = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let some = Audience {
        devices: list(&["x", "设备-01", "x"]),
        aliases: BTreeMap::from([("user".to_owned(), list(&["3", "none"]))]),
        tags: list(&["vip"]),
        ..Audience::default()
    };
    let everyone = Audience { all: true, tags: list(&["vip"]), ..Audience::default() };
    let expr = |text| Some(Expression::parse(text).unwrap());
    let few = Audience { expr: expr("tag:vip & !user:0 | device:设备-00"), ..Audience::default() };
    let narrowed = Audience { only: expr("!tag:vip"), ..some.clone() };
    let narrowed_all = Audience { all: true, only: expr("tag:vip"), ..Audience::default() };
    let nobody = Audience { only: expr("all"), ..Audience::default() };
    for (audience, wanted) in [
        (some, 2 + 5 + 8),
        (everyone, 20),
        (few, 8),
        (Audience::default(), 0),
        (narrowed, 4), // of the device and the user's those with odd numbers; nobody knows x
        (narrowed_all, 10),
        (nobody, 0),
    ] {
        let (audience, app) = (audience.in_order(), app.clone());
        let (mut sizes, estimate) = store
            .read(move |tx| {
                let mut sizes = Vec::new();
                for limit in [1, 2, 3, 7, 100] {
                    let (mut all, mut cursor) = (BTreeSet::new(), Some(Cursor::default()));
                    while let Some(at) = cursor {
                        let (ids, next) = audience.chunk(tx, &app, 1, None, &at, limit)?;
                        assert!(ids.len() <= limit);
                        all.extend(ids);
                        cursor = next;
                    }
                    sizes.push(all.len());
                }
                Ok::<_, StoreError>((sizes, audience.estimate(tx, &app)?))
            })
            .await
            .unwrap();
        sizes.dedup();
        assert_eq!((sizes, estimate), (vec![wanted], wanted as u64));
    }
}

#[test]
fn an_estimate_looks_at_so_many_devices_in_all_however_many_lists_there_are() {
    for lists in 0..=16 {
        let of_each = sample_of_each(lists);
        assert!(of_each >= 1 && of_each * lists <= LOOK_MAX, "{lists}");
    }
}

#[tokio::test]
async fn a_place_of_an_older_release_within_its_parts_loses_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), Arc::new(|| 1)).unwrap();
    let app = AppId::default();
    let write = |tx: &mut Tx<'_>| {
        let device = Device { id: "a".to_owned(), tags: ["t".to_owned()].into(), ..Device::default() };
        devices::save(tx, &AppId::default(), &device)
    };
    store.write(write).await.unwrap();
    let audience = Audience { tags: vec!["s".to_owned(), "t".to_owned()], ..Audience::default() };
    let old = serde_json::from_value::<Cursor>(serde_json::json!({"part": 2, "after": "a"})).unwrap();
    let (ids, next) = store.read(move |tx| audience.chunk(tx, &app, 1, None, &old, 10)).await.unwrap();
    assert_eq!((ids, next), (vec!["a".to_owned()], None));
}
