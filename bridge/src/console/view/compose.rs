//! Composing a message: whom, what, how; with a live count and a preview.

use maud::{Markup, html};
use serde_json::Value;

use super::Context;
use super::fields::{Control, Field, Filled, field};
use super::parts::{card, csrf, refusal};
use crate::console::door::Refusal;
use crate::console::form::Fields;
use crate::console::texts::Texts;
use crate::console::words::{self, fill, number};
use crate::vendor::VendorName;

/// What the app has to choose from, by name.
pub(in crate::console) struct Named {
    pub templates: Vec<String>,
    pub policies: Vec<String>,
}

/// The whole form. `nonce` makes sending it twice one message.
pub(in crate::console) fn compose(
    context: &Context<'_>,
    filled: &Filled,
    named: &Named,
    nonce: &str,
) -> Markup {
    let texts = context.texts;
    let action = context.path("/compose");
    html! {
        @if let Some(refused) = &filled.refusal { (refusal(texts, refused)) }
        form.compose method="post" action=(action) data-count={ (action) "/count" } data-counting=(texts.counting) {
            (csrf(context.csrf))
            input type="hidden" name="nonce" value=(nonce);
            div.stack {
                (card(texts.audience, audience(context, filled)))
                (card(texts.content, content(context, filled, &named.templates)))
                (card(texts.when, when(context, filled)))
                (card(texts.delivery, delivery(context, filled, &named.policies)))
            }
            aside.stack.sticky aria-label=(texts.summary) {
                section.card {
                    h2 { (texts.audience_count) }
                    div #count aria-live="polite" { p.dim { (texts.count_hint) } }
                    button.small type="submit" formaction={ (action) "?part=count" } name="action" value="count" data-hide { (texts.count_now) }
                }
                section.card {
                    h2 { (texts.preview) }
                    (preview(context, &filled.fields))
                }
                section.card.stack {
                    h2 { (texts.test_first) }
                    (field(filled, &Field::text("test_device", texts.test_device).hint(texts.test_device_hint)))
                    button type="submit" name="action" value="test" { (texts.send_test) }
                }
                section.card.stack {
                    button.primary.large type="submit" name="action" value="send" { (texts.send_message) }
                    p.hint { (texts.send_hint) }
                }
            }
        }
    }
}

fn audience(context: &Context<'_>, filled: &Filled) -> Markup {
    let texts = context.texts;
    let chosen = filled.fields.some("kind").unwrap_or("expr");
    let kinds = [
        ("expr", texts.audience_expr),
        ("tags", texts.audience_tags),
        ("users", texts.audience_users),
        ("devices", texts.audience_devices),
        ("all", texts.audience_all),
    ];
    html! {
        fieldset.choice {
            legend { (texts.who) }
            @for (kind, text) in kinds {
                label.radio { input type="radio" name="kind" value=(kind) checked[kind == chosen]; span { (text) } }
            }
        }
        div data-when="expr" { (field(filled, &Field::text("expr", texts.expression).control(Control::Area(2)).hint(texts.expression_hint).placeholder("tag:vip & platform:ios & !tag:beta").at("/audience/expr"))) }
        div data-when="tags" { (field(filled, &Field::text("tags", texts.tags).hint(texts.tags_hint).placeholder("vip, beta").at("/audience/tags"))) }
        div data-when="users" { (field(filled, &Field::text("users", texts.users).control(Control::Area(3)).hint(texts.one_a_line).at("/audience/aliases"))) }
        div data-when="devices" { (field(filled, &Field::text("devices", texts.device_ids).control(Control::Area(3)).hint(texts.one_a_line).at("/audience/devices"))) }
        div data-when="all" { p.notice.warning { (texts.audience_all_warning) } }
    }
}

/// Now, later, or again and again.
fn when(context: &Context<'_>, filled: &Filled) -> Markup {
    let texts = context.texts;
    let chosen = filled.fields.some("when").unwrap_or("now");
    let choices = [("now", texts.when_now), ("later", texts.when_later), ("again", texts.when_again)];
    let clocks = [("zone", texts.clock_zone), ("recipient", texts.clock_recipient)];
    let missed = [("run_once", texts.missed_run_once), ("skip", texts.missed_skip)];
    html! {
        @if let Some(schedule) = filled.fields.some("schedule") { input type="hidden" name="schedule" value=(schedule); }
        fieldset.choice {
            legend { (texts.when) }
            @for (value, text) in choices {
                label.radio { input type="radio" name="when" value=(value) checked[value == chosen]; span { (text) } }
            }
        }
        div data-when="when=later" { (field(filled, &Field::text("not_before", texts.not_before).control(Control::LocalTime).at("/delivery/not_before"))) }
        div data-when="when=again" {
            div.columns {
                (field(filled, &Field::text("cron", texts.cron).hint(texts.cron_hint).placeholder("0 9 * * MON-FRI").at("/when/cron")))
                (field(filled, &Field::text("schedule_name", texts.name).at("/name")))
            }
            div.columns {
                (field(filled, &Field::text("until", texts.until_time).control(Control::LocalTime).at("/until")))
                (field(filled, &Field::text("missed", texts.missed).control(Control::Choice(&missed)).at("/missed")))
            }
        }
        div.columns data-when="when=later when=again" {
            (field(filled, &Field::text("clock", texts.clock).control(Control::Choice(&clocks))))
            (field(filled, &Field::text("timezone", texts.timezone).hint(texts.timezone_hint).placeholder("Europe/Berlin").at("/delivery/timezone")))
        }
    }
}

/// None, what was chosen (which may be a version, or gone), and the names that there are.
fn choices<'n>(none: &'n str, chosen: &'n str, names: &'n [String]) -> Vec<(&'n str, &'n str)> {
    let known = names.iter().map(String::as_str).filter(|name| *name != chosen);
    let own = [("", none), (chosen, chosen)].into_iter().take(if chosen.is_empty() { 1 } else { 2 });
    own.chain(known.map(|name| (name, name))).collect()
}

fn content(context: &Context<'_>, filled: &Filled, templates: &[String]) -> Markup {
    let texts = context.texts;
    let choices = choices(texts.template_none, filled.fields.text("template"), templates);
    html! {
        @if choices.len() > 1 {
            (field(filled, &Field::text("template", texts.template).control(Control::Choice(&choices)).hint(texts.template_hint).at("/template")))
        }
        (field(filled, &Field::text("title", texts.alert_title).at("/notification/title")))
        (field(filled, &Field::text("body", texts.alert_body).control(Control::Area(3)).at("/notification/body")))
        div.columns {
            (field(filled, &Field::text("click", texts.click_url).placeholder("app://order/7").at("/notification/click")))
            (field(filled, &Field::text("image", texts.image_url).placeholder("https://…").at("/notification/image")))
        }
        (field(filled, &Field::text("data", texts.data).control(Control::Area(3)).hint(texts.data_hint).placeholder("{\"order\": 7}").at("/data")))
    }
}

fn delivery(context: &Context<'_>, filled: &Filled, policies: &[String]) -> Markup {
    let texts = context.texts;
    let policies = choices(texts.no_policy, filled.fields.text("policy"), policies);
    let strategies = [
        ("online_first", texts.strategy_online_first),
        ("vendor_only", texts.strategy_vendor_only),
        ("online_only", texts.strategy_online_only),
        ("vendor_first", texts.strategy_vendor_first),
        ("both_dedup", texts.strategy_both_dedup),
    ];
    let priorities =
        [("normal", texts.priority_normal), ("high", texts.priority_high), ("low", texts.priority_low)];
    html! {
        div.columns {
            (field(filled, &Field::text("strategy", texts.strategy).control(Control::Choice(&strategies)).at("/delivery/strategy")))
            (field(filled, &Field::text("priority", texts.priority).control(Control::Choice(&priorities)).at("/delivery/priority")))
        }
        div.columns {
            (field(filled, &Field::text("ttl_h", texts.ttl_hours).control(Control::Number).hint(texts.ttl_hint).placeholder("24").at("/delivery/ttl_s")))
            (field(filled, &Field::text("collapse_key", texts.collapse_key).hint(texts.collapse_hint).at("/delivery/collapse_key")))
        }
        div.columns {
            (field(filled, &Field::text("rate_per_s", texts.rate_per_s).control(Control::Number).hint(texts.pace_hint).at("/delivery/rate_per_s")))
            (field(filled, &Field::text("spread_minutes", texts.spread_minutes).control(Control::Number).hint(texts.spread_hint).at("/delivery/spread_minutes")))
        }
        div.columns {
            (field(filled, &Field::text("category", texts.category).hint(texts.category_hint).at("/delivery/category")))
            (field(filled, &Field::text("campaign", texts.campaign).at("/campaign")))
        }
        @if policies.len() > 1 {
            (field(filled, &Field::text("policy", texts.policy).control(Control::Choice(&policies)).at("/policy")))
            (field(filled, &Field::text("urgent", texts.urgent).control(Control::Check)))
        }
    }
}

/// The alert as a phone would show it.
pub(in crate::console) fn preview(context: &Context<'_>, fields: &Fields) -> Markup {
    let texts = context.texts;
    let app = context.apps.iter().find(|app| Some(app.id.as_str()) == context.app);
    let name = app.map(|app| if app.name.is_empty() { app.id.as_str() } else { app.name.as_str() });
    html! {
        div.phone #preview {
            div.alert-card {
                p.alert-app { (name.unwrap_or_default()) span.dim { (texts.now) } }
                p.alert-title data-mirror="title" data-empty=(texts.no_title) { (fields.some("title").unwrap_or(texts.no_title)) }
                p.alert-body data-mirror="body" data-empty="" { (fields.text("body")) }
            }
        }
    }
}

/// How many devices, with some of them; or what is wrong with the audience.
pub(in crate::console) fn count(
    context: &Context<'_>,
    counted: &Result<Value, Refusal>,
    rehearsed: Option<&Value>,
) -> Markup {
    let texts = context.texts;
    match counted {
        Err(refused) => html! { (refusal(texts, refused)) },
        Ok(answer) => {
            let count = |name: &str| answer.get(name).and_then(Value::as_u64).unwrap_or(0);
            let sample = answer.get("sample").and_then(Value::as_array).into_iter().flatten();
            let sample: Vec<&str> =
                sample.filter_map(|item| item.as_str().or_else(|| item.get("id")?.as_str())).collect();
            let vendors = answer.get("by_vendor").and_then(Value::as_object).into_iter().flatten();
            html! {
                p.big-count { strong { (number(count("devices"))) } " " (texts.devices_unit) }
                dl.facts.compact {
                    div { dt { (texts.online) } dd { (number(count("online"))) } }
                    @for (vendor, devices) in vendors {
                        div { dt { (vendor.parse::<VendorName>().map_or(vendor.as_str(), |known| words::vendor(known))) } dd { (number(devices.as_u64().unwrap_or(0))) } }
                    }
                    @if answer.get("without_token").is_some() { div { dt { (texts.without_token) } dd { (number(count("without_token"))) } } }
                }
                @if let Some(rehearsed) = rehearsed { (sizes(texts, rehearsed)) }
                @if !sample.is_empty() {
                    p.hint { (fill(texts.for_example, &[""])) @for id in &sample { code { (id) } " " } }
                }
            }
        }
    }
}

/// How large the message is for each vendor, and what a vendor would not take.
fn sizes(texts: &Texts, rehearsed: &Value) -> Markup {
    let text =
        |item: &Value, name: &str| item.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let vendors = rehearsed.get("vendors").and_then(Value::as_array).into_iter().flatten();
    html! {
        ul.sizes {
            @for item in vendors {
                @let vendor = text(item, "vendor");
                li {
                    strong { (vendor.parse::<VendorName>().map_or(vendor.as_str(), |known| words::vendor(known))) }
                    @if let Some(size) = item.get("bytes").and_then(Value::as_u64) { " " (words::bytes(size)) }
                    @if !text(item, "left_out").is_empty() { p.wrong { (fill(texts.shortened, &[&text(item, "left_out")])) } }
                    @if !text(item, "problem").is_empty() { p.wrong { (text(item, "problem")) } }
                    @if let Some(payload) = item.get("payload") {
                        details { summary { (texts.payload) } (super::parts::json(payload)) }
                    }
                }
            }
        }
    }
}
