//! Policies: what each allows in one line, and the form of one.

use maud::{Markup, html};

use super::Context;
use super::fields::{Control, Field, Filled, field};
use super::parts::{Confirm, card, confirm, csrf, empty, refusal, table, time};
use crate::apps::Access;
use crate::console::door::encode;
use crate::console::texts::Texts;
use crate::console::words::{fill, span};
use crate::policies::{CAPS_MAX, Cap, Coalesce, Policy, QuietHours, Then};

/// The list.
pub(in crate::console) fn list(context: &Context<'_>, policies: &[Policy]) -> Markup {
    let texts = context.texts;
    let new = context.path("/policies/edit");
    if policies.is_empty() {
        let action = context.offer(Access::Send, &new, texts.add_policy);
        return empty(texts.policies_empty, texts.policies_empty_lead, action);
    }
    let remove = context.path("/policies/remove");
    let rows = html! {
        @for policy in policies {
            @let edit = context.path(&format!("/policies/edit?name={}", encode(&policy.name)));
            tr {
                th scope="row" {
                    @if context.may(Access::Send) { a href=(edit) { (policy.name) } } @else { (policy.name) }
                    @if !policy.description.is_empty() { br; span.dim { (policy.description) } }
                }
                td.wide { ul { @for rule in rules(texts, policy) { li { (rule) } } } }
                td { code { (policy.categories.iter().map(String::as_str).collect::<Vec<_>>().join(", ")) } }
                td { (time(policy.updated_at_ms)) }
                td {
                    @if context.may(Access::Send) {
                        (confirm(texts, &Confirm { csrf: context.csrf, action: &remove, label: texts.remove, warning: texts.remove_policy_warning, fields: &[("name", &policy.name)] }))
                    }
                }
            }
        }
    };
    table(texts.policies, &[texts.name, texts.policy_rules, texts.categories, texts.changed_at, ""], rows)
}

/// The way to the form, beside the title.
pub(in crate::console) fn actions(context: &Context<'_>) -> Option<Markup> {
    let new = context.path("/policies/edit");
    context.may(Access::Send).then(|| html! { a.button.primary href=(new) { (context.texts.add_policy) } })
}

/// What a policy allows, a line for each rule.
fn rules(texts: &Texts, policy: &Policy) -> Vec<String> {
    let mut rules: Vec<String> = policy.caps.iter().map(|cap| cap_in_words(texts, cap)).collect();
    if let Some(QuietHours { from, to, then, .. }) = &policy.quiet_hours {
        let (from, to) = (String::from(*from), String::from(*to));
        rules.push(fill(texts.rule_quiet, &[&from, &to, then_in_words(texts, *then)]));
    }
    match &policy.coalesce {
        Coalesce::Every => {}
        Coalesce::FirstOnly => rules.push(texts.coalesce_first.to_owned()),
        Coalesce::Digest(digest) => rules.push(fill(texts.rule_digest, &[&digest.after.to_string()])),
    }
    rules.extend(policy.save_quota.then(|| texts.save_quota.to_owned()));
    rules.extend(policy.rate_per_s.map(|rate| fill(texts.rule_rate, &[&rate.to_string()])));
    rules
}

fn cap_in_words(texts: &Texts, cap: &Cap) -> String {
    let (max, window) = (cap.max.to_string(), span(texts, cap.window_s.into()));
    let mut words = fill(texts.rule_cap, &[&max, &window, then_in_words(texts, cap.then)]);
    for (label, value) in [(texts.tag, &cap.tag), (texts.category, &cap.category)] {
        if let Some(value) = value {
            words.push_str(&format!(" ({label}{}{value})", texts.colon));
        }
    }
    words
}

fn then_in_words(texts: &Texts, then: Then) -> &'static str {
    match then {
        Then::Delay => texts.then_delay_word,
        Then::Drop => texts.then_drop_word,
    }
}

/// The units of a window in seconds, as a form names them.
fn units(texts: &Texts) -> [(&'static str, &'static str); 4] {
    [
        ("86400", texts.unit_days),
        ("3600", texts.unit_hours),
        ("60", texts.unit_minutes),
        ("1", texts.unit_seconds),
    ]
}

/// A window as a count of its largest whole unit.
pub(in crate::console) fn window(window_s: u32) -> (u32, &'static str) {
    match window_s {
        seconds if seconds % 86_400 == 0 => (seconds / 86_400, "86400"),
        seconds if seconds % 3_600 == 0 => (seconds / 3_600, "3600"),
        seconds if seconds % 60 == 0 => (seconds / 60, "60"),
        seconds => (seconds, "1"),
    }
}

/// The form of a policy. `is_new`: its name can be chosen.
pub(in crate::console) fn form(context: &Context<'_>, filled: &Filled, is_new: bool) -> Markup {
    let texts = context.texts;
    html! {
        form.stack method="post" action=(context.path("/policies")) {
            (csrf(context.csrf))
            input type="hidden" name="etag" value=(filled.fields.text("etag"));
            @if let Some(refused) = &filled.refusal { (refusal(texts, refused)) }
            (card(texts.policy, about(texts, filled, is_new)))
            (card(texts.caps, caps(texts, filled)))
            (card(texts.quiet_hours, quiet(texts, filled)))
            (card(texts.coalesce, coalesce(texts, filled)))
            (card(texts.sending_pace, html! {
                (field(filled, &Field::text("save_quota", texts.save_quota).control(Control::Check).hint(texts.save_quota_hint)))
                (field(filled, &Field::text("rate_per_s", texts.policy_rate).control(Control::Number).hint(texts.policy_rate_hint).at("/rate_per_s")))
            }))
            div.actions {
                button.primary type="submit" { (texts.save) }
                a.button href=(context.path("/policies")) { (texts.cancel) }
            }
        }
    }
}

fn about(texts: &Texts, filled: &Filled, is_new: bool) -> Markup {
    html! {
        div.columns {
            @if is_new {
                (field(filled, &Field::text("name", texts.name).required().hint(texts.policy_name_hint).placeholder("marketing").at("/name")))
            } @else {
                input type="hidden" name="name" value=(filled.fields.text("name"));
            }
            (field(filled, &Field::text("description", texts.description).at("/description")))
        }
        (field(filled, &Field::text("categories", texts.categories).hint(texts.policy_categories_hint).placeholder("MARKETING").at("/categories")))
    }
}

/// A row for each cap, and an empty one. Rows without a number count for nothing.
fn caps(texts: &Texts, filled: &Filled) -> Markup {
    let is_filled = |row: &usize| filled.fields.some(&format!("cap_max_{row}")).is_some();
    let rows = (0..CAPS_MAX).filter(is_filled).max().map_or(1, |last| (last + 2).min(CAPS_MAX));
    html! {
        p.hint { (texts.caps_hint) }
        @for row in 0..rows {
            @let place = (0..row).filter(is_filled).count();
            fieldset {
                legend { (fill(texts.cap_n, &[&(row + 1).to_string()])) }
                (cap(texts, filled, row, place))
            }
        }
    }
}

/// `place` is that of the cap in the body which the API sees.
fn cap(texts: &Texts, filled: &Filled, row: usize, place: usize) -> Markup {
    let name = |field: &str| format!("cap_{field}_{row}");
    let at = |field: &str| format!("/caps/{place}/{field}");
    let units = units(texts);
    let thens = thens(texts);
    html! {
        div.columns {
            (field(filled, &Field::text(&name("max"), texts.cap_max).control(Control::Number).at(&at("max"))))
            (field(filled, &Field::text(&name("count"), texts.cap_window).control(Control::Number).placeholder("1").at(&at("window_s"))))
            (field(filled, &Field::text(&name("unit"), texts.cap_unit).control(Control::Choice(&units))))
            (field(filled, &Field::text(&name("then"), texts.beyond_it).control(Control::Choice(&thens)).at(&at("then"))))
            (field(filled, &Field::text(&name("tag"), texts.cap_tag).at(&at("tag"))))
            (field(filled, &Field::text(&name("category"), texts.cap_category).at(&at("category"))))
        }
    }
}

fn thens(texts: &Texts) -> [(&'static str, &'static str); 2] {
    [("delay", texts.then_delay), ("drop", texts.then_drop)]
}

fn quiet(texts: &Texts, filled: &Filled) -> Markup {
    let thens = thens(texts);
    html! {
        p.hint { (texts.quiet_hint) }
        div.columns {
            (field(filled, &Field::text("quiet_from", texts.quiet_from).placeholder("22:00").at("/quiet_hours/from")))
            (field(filled, &Field::text("quiet_to", texts.quiet_to).placeholder("08:00").at("/quiet_hours/to")))
            (field(filled, &Field::text("quiet_timezone", texts.timezone).hint(texts.quiet_timezone_hint).placeholder("Asia/Shanghai").at("/quiet_hours/timezone")))
            (field(filled, &Field::text("quiet_then", texts.meanwhile).control(Control::Choice(&thens)).at("/quiet_hours/then")))
        }
    }
}

fn coalesce(texts: &Texts, filled: &Filled) -> Markup {
    let ways = [
        ("every", texts.coalesce_every),
        ("first_only", texts.coalesce_first),
        ("digest", texts.coalesce_digest),
    ];
    html! {
        p.hint { (texts.coalesce_hint) }
        (field(filled, &Field::text("coalesce", texts.coalesce).control(Control::Choice(&ways)).at("/coalesce")))
        div.columns {
            (field(filled, &Field::text("digest_after", texts.digest_after).control(Control::Number).placeholder("3").at("/coalesce/digest/after")))
            (field(filled, &Field::text("digest_text", texts.digest_text).hint(texts.digest_text_hint).placeholder("{n} new messages").at("/coalesce/digest/text")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::texts::Language;

    #[test]
    fn a_policy_is_told_in_a_line_for_each_rule() {
        let policy: Policy = serde_json::from_value(serde_json::json!({
            "name": "p", "description": "", "categories": [], "created_at_ms": 0, "updated_at_ms": 0,
            "caps": [{"max": 3, "window_s": 86_400, "tag": "vip", "then": "drop"}, {"max": 1, "window_s": 5_400}],
            "quiet_hours": {"from": "22:00", "to": "08:00"}, "coalesce": {"digest": {"after": 2}},
            "save_quota": true, "rate_per_s": 9,
        }))
        .unwrap();
        let english = rules(Language::English.texts(), &policy);
        assert_eq!(english[0], "At most 3 in 24 h; beyond it: dropped (Tag: vip)");
        assert_eq!(english[1], "At most 1 in 90 min; beyond it: delayed");
        assert_eq!(english[2], "Quiet from 22:00 to 08:00: delayed");
        assert_eq!(english.len(), 6);
        let chinese = rules(Language::Chinese.texts(), &policy);
        assert_eq!(chinese[1], "最多 1 条（90 分钟 内），超出则延后");
        assert!(rules(Language::English.texts(), &Policy::default()).is_empty());
    }
}
