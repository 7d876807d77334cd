//! Facts in the visitor's language: states, reasons, moments, numbers.

use reveille_proto::delivery::DeliveryState as State;

use super::door::Refusal;
use super::texts::{Language, Texts};
use super::view::parts::Tone;
use crate::deliveries::{Bucket, Delivery, Entry};
use crate::vendor::VendorName;

/// A moment as `2026-11-25T22:11:58Z`.
pub(super) fn iso(at_ms: u64) -> String {
    let text = date_and_time(at_ms);
    format!("{}T{}Z", text.0, text.1)
}

/// A moment as `2026-11-25 22:11:58 UTC`.
pub(super) fn utc(at_ms: u64) -> String {
    let text = date_and_time(at_ms);
    format!("{} {} UTC", text.0, text.1)
}

/// Date and time of the proleptic Gregorian calendar, by the usual arithmetic over eras of 400 years.
fn date_and_time(at_ms: u64) -> (String, String) {
    let (days, second) = (at_ms / 86_400_000, at_ms / 1000 % 86_400);
    let from_march_0000 = days + 719_468;
    let (era, day_of_era) = (from_march_0000 / 146_097, from_march_0000 % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let date = format!("{year:04}-{month:02}-{day:02}");
    (date, format!("{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60))
}

/// A count with thousands apart.
pub(super) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes as people read them.
pub(super) fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        _ => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

/// How devices reach a network, as the heartbeat calls it.
pub(super) fn radio<'t>(texts: &'t Texts, radio: &'t str) -> &'t str {
    match radio {
        "?" => texts.radio_unknown,
        "eth" => texts.radio_cable,
        "wifi" => "Wi-Fi",
        generation => generation,
    }
}

/// A time span as people read it.
pub(super) fn span(texts: &Texts, seconds: u64) -> String {
    match seconds {
        0..120 => fill(texts.n_seconds, &[&seconds.to_string()]),
        120..7_200 => fill(texts.n_minutes, &[&(seconds / 60).to_string()]),
        7_200..172_800 => fill(texts.n_hours, &[&(seconds / 3_600).to_string()]),
        _ => fill(texts.n_days, &[&(seconds / 86_400).to_string()]),
    }
}

/// A text's beginning.
pub(super) fn cut(text: &str, characters_max: usize) -> String {
    match text.char_indices().nth(characters_max) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// Puts values where `{}` stands.
pub(super) fn fill(text: &str, values: &[&str]) -> String {
    let mut parts = text.split("{}");
    let mut filled = parts.next().unwrap_or_default().to_owned();
    let mut values = values.iter();
    for part in parts {
        filled.push_str(values.next().copied().unwrap_or_default());
        filled.push_str(part);
    }
    filled
}

/// What vendors call themselves.
pub(super) fn vendor(vendor: VendorName) -> &'static str {
    match vendor {
        VendorName::Apns => "APNs",
        VendorName::Fcm => "FCM",
        VendorName::Huawei => "Huawei HMS",
        VendorName::Harmony => "HarmonyOS",
        VendorName::Honor => "HONOR",
        VendorName::Xiaomi => "Xiaomi",
        VendorName::Oppo => "OPPO",
        VendorName::Vivo => "vivo",
        VendorName::Meizu => "Meizu",
        VendorName::WebPush => "Web Push",
        VendorName::Wns => "Windows (WNS)",
        VendorName::Wechat => "WeChat",
        VendorName::Webhook => "Webhook",
        VendorName::Record => "Record",
    }
}

/// The word for a state of a delivery.
pub(super) fn state(texts: &Texts, state: State) -> &'static str {
    match state {
        State::Targeted => texts.state_targeted,
        State::Filtered => texts.state_filtered,
        State::Queued => texts.state_queued,
        State::OnlineSent => texts.state_online_sent,
        State::OnlineAcked => texts.state_online_acked,
        State::VendorSubmitted => texts.state_vendor_submitted,
        State::VendorAccepted => texts.state_vendor_accepted,
        State::VendorDelivered => texts.state_vendor_delivered,
        State::Shown => texts.state_shown,
        State::Clicked => texts.state_clicked,
        State::Dismissed => texts.state_dismissed,
        State::Expired => texts.state_expired,
        State::Recalled => texts.state_recalled,
        State::SuppressedDrainedOnline => texts.state_drained,
        State::SuppressedCap => texts.state_cap,
        State::SuppressedQuiet => texts.state_quiet,
        State::Failed => texts.state_failed,
    }
}

/// How good a state is.
pub(super) fn tone(state: State) -> Tone {
    match Bucket::of(state) {
        Bucket::Acked | Bucket::VendorAccepted => Tone::Good,
        Bucket::InFlight => Tone::Busy,
        Bucket::Failed => Tone::Bad,
        Bucket::Expired => Tone::Warning,
        Bucket::Filtered | Bucket::Suppressed => Tone::Quiet,
    }
}

/// The parts of a funnel in order, with the name in URLs, the word and the colour's class.
pub(super) fn buckets(texts: &'static Texts) -> [(Bucket, &'static str, &'static str, &'static str); 7] {
    [
        (Bucket::Acked, "acked", texts.bucket_acked, "good"),
        (Bucket::VendorAccepted, "vendor_accepted", texts.bucket_vendor_accepted, "busy"),
        (Bucket::InFlight, "in_flight", texts.bucket_in_flight, "wait"),
        (Bucket::Suppressed, "suppressed", texts.bucket_suppressed, "quiet"),
        (Bucket::Filtered, "filtered", texts.bucket_filtered, "quiet"),
        (Bucket::Expired, "expired", texts.bucket_expired, "warning"),
        (Bucket::Failed, "failed", texts.bucket_failed, "bad"),
    ]
}

/// The word for the state of a message.
pub(super) fn message_state(texts: &Texts, state: &str) -> (Tone, String) {
    let known = |tone, text: &str| (tone, text.to_owned());
    match state {
        "accepted" | "expanding" => known(Tone::Busy, texts.message_expanding),
        "sending" => known(Tone::Busy, texts.message_sending),
        "scheduled" => known(Tone::Busy, texts.message_scheduled),
        "paused" => known(Tone::Warning, texts.message_paused),
        "done" => known(Tone::Good, texts.message_done),
        "recalled" => known(Tone::Quiet, texts.message_recalled),
        "cancelled" => known(Tone::Quiet, texts.message_cancelled),
        "failed" => known(Tone::Bad, texts.message_failed),
        other => known(Tone::Quiet, other),
    }
}

/// Our own sentences in the visitor's language; a vendor's words stay as they are.
pub(super) fn reason(texts: &Texts, reason: &str) -> String {
    if let Some((_, chinese)) = REASONS.iter().find(|(english, _)| *english == reason)
        && texts.language == Language::Chinese
    {
        return (*chinese).to_owned();
    }
    if let Some(told) = by_pattern(texts, reason) {
        return told;
    }
    match reason.strip_suffix("; tried again") {
        Some(before) => format!("{before}{}", texts.tried_again),
        None => reason.to_owned(),
    }
}

/// A sentence of ours with values in it; the values may be such sentences.
fn by_pattern(texts: &Texts, sentence: &str) -> Option<String> {
    if texts.language == Language::English {
        return None;
    }
    PATTERNS.iter().find_map(|(english, chinese)| {
        let values = values(english, sentence)?;
        let told: Vec<String> = values.into_iter().map(|value| reason(texts, value)).collect();
        Some(fill(chinese, &told.iter().map(String::as_str).collect::<Vec<_>>()))
    })
}

/// What stands in a sentence where its pattern has `{}`.
fn values<'s>(pattern: &str, sentence: &'s str) -> Option<Vec<&'s str>> {
    let mut parts = pattern.split("{}");
    let mut rest = sentence.strip_prefix(parts.next()?)?;
    let mut values = Vec::new();
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        let (value, after) = match is_last {
            true => (rest.strip_suffix(part)?, ""),
            false => rest.split_once(part)?,
        };
        if value.is_empty() {
            return None;
        }
        values.push(value);
        rest = after;
    }
    Some(values)
}

/// Sentences of policies, and of calls, with the values at `{}`; the first one that fits.
const PATTERNS: &[(&str, &str)] = &[
    ("attempt {}, as a digest of {} messages", "第 {} 次尝试，合并提醒 {} 条消息"),
    ("attempt {}", "第 {} 次尝试"),
    ("held until {} by policy {}: {}", "暂缓至 {}（策略 {}）：{}"),
    ("dropped by policy {}: {}", "被策略 {} 丢弃：{}"),
    (
        "not pushed by policy {}: the device was woken before and is still offline",
        "策略 {} 不再推送：设备已被唤醒过且仍离线",
    ),
    ("{}, and {} is after the message's time", "{}，而 {} 已超出消息有效期"),
    ("{} is within its quiet hours", "{} 处于免打扰时段"),
    ("{} of the recipient's time", "接收者当地时间 {}"),
    ("{} messages a second are its most", "每秒最多 {} 条"),
    ("{} in {} are its most", "最多 {} / {}"),
    ("{} messages", "{} 条消息"),
    ("{} message", "{} 条消息"),
    ("{} days", "{} 天"),
    ("{} hours", "{} 小时"),
    ("{} hour", "{} 小时"),
    ("{} minutes", "{} 分钟"),
    ("{} minute", "{} 分钟"),
    ("{} seconds", "{} 秒"),
];

/// Sentences that the plan and the facts write into timelines, and their Chinese.
const REASONS: &[(&str, &str)] = &[
    (
        "the device took it over the socket before its vendor was called",
        "设备已通过长连接收取，无需再调用厂商通道",
    ),
    ("withdrawn by the sender", "发送方已撤回"),
    ("its time is over", "已过有效期"),
    ("no vendor takes it", "没有厂商通道接受"),
    ("the device has neither a session nor a live device token", "设备既无会话，也无有效的设备令牌"),
    ("the device has no session at the broker", "设备在消息服务器上没有会话"),
    ("the device is offline", "设备离线"),
    ("sent over the socket, not acknowledged in time", "已通过长连接发送，但未及时确认"),
    ("published over MQTT", "通过 MQTT 发布"),
    ("acknowledged over the socket", "设备已通过长连接确认"),
    ("the broker said nothing in time", "消息服务器未及时反馈"),
    ("the device has no live device token there any more", "设备在该厂商已无有效令牌"),
    ("the app's pushes of this day are used up", "应用当日推送额度已用完"),
    ("worthless by the next attempt", "下次尝试前将过期"),
    ("its policy lets it go", "策略已放行"),
    ("the device is usually online by then", "设备通常在此之前上线"),
    (
        "interrupted: it is not known whether the vendor has it, so it is repeated under the same id",
        "调用中断，无法确定厂商是否收到，将以同一标识重发",
    ),
];

/// One line of a timeline in words.
pub(super) fn entry(texts: &Texts, entry: &Entry) -> String {
    let what = state(texts, entry.state);
    match (entry.reason.as_str(), entry.vendor) {
        ("", Some(name)) if entry.state == State::Queued => {
            format!("{what}{}{}", texts.colon, fill(texts.waits_for, &[vendor(name)]))
        }
        ("", _) => what.to_owned(),
        (why, _) => format!("{what}{}{}", texts.colon, reason(texts, why)),
    }
}

/// What became of a delivery, in one sentence, with the moment of it.
pub(super) fn verdict(texts: &Texts, delivery: &Delivery) -> (String, Option<u64>) {
    let told = |entry: &&Entry| entry.state == delivery.state;
    let first = delivery.timeline.iter().find(told);
    let last_vendor = delivery.timeline.iter().rev().find_map(|entry| entry.vendor).map(vendor);
    let at_ms = first.map(|entry| entry.at_ms);
    let by = last_vendor.unwrap_or_default();
    let sentence = match delivery.state {
        State::OnlineAcked => texts.verdict_acked.to_owned(),
        State::Shown => texts.verdict_shown.to_owned(),
        State::Clicked => texts.verdict_clicked.to_owned(),
        State::Dismissed => texts.verdict_dismissed.to_owned(),
        State::SuppressedDrainedOnline => texts.verdict_drained.to_owned(),
        State::VendorAccepted => fill(texts.verdict_vendor_accepted, &[by]),
        State::VendorDelivered => fill(texts.verdict_vendor_delivered, &[by]),
        State::VendorSubmitted => fill(texts.verdict_vendor_submitted, &[by]),
        State::Expired => texts.verdict_expired.to_owned(),
        State::Recalled => texts.verdict_recalled.to_owned(),
        State::Failed => fill(texts.verdict_failed, &[&reason(texts, cause(delivery))]),
        State::Targeted | State::Queued if delivery.is_held() => {
            fill(texts.verdict_held, &[&reason(texts, delivery.reason())])
        }
        State::Targeted | State::Queued | State::OnlineSent => match last_vendor {
            Some(vendor) => fill(texts.verdict_waits_vendor, &[vendor]),
            None => texts.verdict_waits.to_owned(),
        },
        State::Filtered | State::SuppressedCap | State::SuppressedQuiet => {
            format!("{}{}{}", state(texts, delivery.state), texts.colon, reason(texts, delivery.reason()))
        }
    };
    (sentence, at_ms)
}

/// Why a delivery ended as it did: a vendor's word, where one refused it; else the last word of ours.
pub(super) fn cause(delivery: &Delivery) -> &str {
    let is_refusal = |entry: &&Entry| {
        entry.vendor.is_some() && !entry.reason.is_empty() && !entry.reason.starts_with("attempt ")
    };
    match delivery.bucket {
        Bucket::Failed => {
            let refusal = delivery.timeline.iter().rev().find(is_refusal);
            refusal.map_or(delivery.reason(), |entry| entry.reason.as_str())
        }
        _ => delivery.reason(),
    }
}

/// What a refusal is called.
pub(super) fn refusal_title(texts: &Texts, refusal: &Refusal) -> String {
    match refusal.code.as_str() {
        "key_forbidden" => texts.refused_forbidden.to_owned(),
        "invalid_field" => texts.refused_field.to_owned(),
        "path_unknown" => texts.refused_path.to_owned(),
        "app_unknown" => texts.refused_app.to_owned(),
        "app_exists" => texts.refused_app_exists.to_owned(),
        "device_unknown" => texts.refused_device.to_owned(),
        "message_unknown" => texts.refused_message.to_owned(),
        "delivery_unknown" => texts.refused_delivery.to_owned(),
        "credential_unknown" => texts.refused_credential.to_owned(),
        "session_unknown" => texts.refused_session.to_owned(),
        "retained_unknown" => texts.refused_retained.to_owned(),
        "not_connected" => texts.refused_not_connected.to_owned(),
        "policy_unknown" => texts.refused_policy.to_owned(),
        "precondition_failed" => texts.refused_changed.to_owned(),
        "category_taken" => texts.refused_category.to_owned(),
        "stopping" | "store_failed" => texts.refused_store.to_owned(),
        _ if refusal.title.is_empty() => fill(texts.refused_other, &[&refusal.status.to_string()]),
        _ => refusal.title.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (at_ms, wanted) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696_000, "2000-02-29T12:34:56Z"),
            (1_764_108_718_999, "2025-11-25T22:11:58Z"),
            (4_102_444_800_000, "2100-01-01T00:00:00Z"),
            (4_107_542_399_000, "2100-02-28T23:59:59Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(iso(at_ms), wanted);
        }
    }

    #[test]
    fn numbers_are_easy_to_read() {
        for (count, wanted) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(number(count), wanted);
        }
        assert_eq!((bytes(5), bytes(2_048)), ("5 B".to_owned(), "2.0 KiB".to_owned()));
        assert_eq!(fill("{} of {}", &["1", "2"]), "1 of 2");
        let texts = Language::English.texts();
        assert_eq!((span(texts, 119), span(texts, 120)), ("119 s".to_owned(), "2 min".to_owned()));
    }

    #[test]
    fn our_own_sentences_are_told_in_both_languages_and_a_vendor_s_words_as_they_are() {
        let (english, chinese) = (Language::English.texts(), Language::Chinese.texts());
        for (sentence, wanted) in REASONS {
            assert_eq!(reason(english, sentence), *sentence);
            assert_eq!(reason(chinese, sentence), *wanted);
        }
        assert_eq!(reason(chinese, "fcm: token_dead (UNREGISTERED)"), "fcm: token_dead (UNREGISTERED)");
        for (sentence, wanted) in [
            ("attempt 2", "第 2 次尝试"),
            ("attempt 1, as a digest of 5 messages", "第 1 次尝试，合并提醒 5 条消息"),
            (
                "held until 08:00 of the recipient's time by policy p: 22:40 of the recipient's time is within its quiet hours",
                "暂缓至 接收者当地时间 08:00（策略 p）：接收者当地时间 22:40 处于免打扰时段",
            ),
            (
                "dropped by policy p: 3 messages in 24 hours are its most, and 09:00 UTC is after the message's time",
                "被策略 p 丢弃：最多 3 条消息 / 24 小时，而 09:00 UTC 已超出消息有效期",
            ),
            (
                "held until 09:00 UTC by policy p: the device is usually online by then",
                "暂缓至 09:00 UTC（策略 p）：设备通常在此之前上线",
            ),
        ] {
            assert_eq!(reason(english, sentence), sentence);
            assert_eq!(reason(chinese, sentence), wanted);
        }
    }
}
