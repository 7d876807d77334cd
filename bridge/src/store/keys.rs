//! Where each record stands. Texts end with NUL, which no id may hold; numbers are big-endian so that they sort.

use reveille_proto::ids::{AppId, MessageId};

use crate::inbox::Place;
use crate::index::DeviceNumber;
use crate::lane::{Class, CredentialName, Lane};
use crate::queues::Size;
use crate::statistics::Value;
use crate::vendor::VendorName;

fn text(key: &mut Vec<u8>, text: &str) {
    key.extend_from_slice(text.as_bytes());
    key.push(0);
}

fn key(kind: u8, texts: &[&str]) -> Vec<u8> {
    let mut key = vec![kind];
    for part in texts {
        text(&mut key, part);
    }
    key
}

/// `apps`: the app itself.
pub fn app(app: &AppId) -> Vec<u8> {
    key(b'a', &[app.as_str()])
}

/// `apps`: every app.
pub fn apps() -> Vec<u8> {
    vec![b'a']
}

/// `apps`: a long operation. It outlives its app, so it does not stand below the app's name, which is never empty.
pub fn operation(id: &str) -> Vec<u8> {
    key(b'l', &["", id])
}

/// What begins so belongs to an app: its name is the first text of nearly every key.
pub fn of_app(kind: u8, app: &AppId) -> Vec<u8> {
    key(kind, &[app.as_str()])
}

/// `apps`: what stands beside an app's credentials, see [`told_expiry`] and [`feed_position`].
pub fn beside_credentials(app: &AppId) -> [Vec<u8>; 2] {
    let credentials = credentials_of(app);
    [beside(b'e', &credentials), beside(b'o', &credentials)]
}

/// `apps`: an API key by its public half.
pub fn api_key(id: &str) -> Vec<u8> {
    key(b'k', &[id])
}

/// `apps`: every API key, and whoever logs in with a password.
pub fn api_keys() -> Vec<u8> {
    vec![b'k']
}

/// `apps`: set once the first admin key was made.
pub fn first_admin() -> Vec<u8> {
    vec![b'f']
}

/// `apps`: which key the secrets are encrypted with.
pub fn vault_key() -> Vec<u8> {
    vec![b'v']
}

/// `apps`: every credential.
pub fn credentials() -> Vec<u8> {
    vec![b'c']
}

/// `apps`: every credential of an app.
pub fn credentials_of(app: &AppId) -> Vec<u8> {
    key(b'c', &[app.as_str()])
}

/// `apps`: one of an app's credentials. The usual one adds no name, so that its key is that of the first format.
pub fn credential(app: &AppId, vendor: VendorName, name: &CredentialName) -> Vec<u8> {
    let mut key = key(b'c', &[app.as_str(), vendor.as_str()]);
    if !name.is_default() {
        text(&mut key, name.as_str());
    }
    key
}

/// The name in a key of [`credential`].
pub fn credential_name(key: &[u8]) -> Option<CredentialName> {
    let name = key.split(|byte| *byte == 0).nth(2).filter(|name| !name.is_empty())?;
    CredentialName::parse(std::str::from_utf8(name).ok()?).ok()
}

/// Whose credential stands under a key of [`credentials`], and its name.
pub fn credential_owner(key: &[u8]) -> Option<(AppId, VendorName, String)> {
    let mut parts = key.strip_prefix(b"c")?.split(|byte| *byte == 0).map(std::str::from_utf8);
    let app = AppId::parse(parts.next()?.ok()?).ok()?;
    let vendor = parts.next()?.ok()?.parse().ok()?;
    let name = parts.next().and_then(Result::ok).filter(|name| !name.is_empty()).unwrap_or("default");
    Some((app, vendor, name.to_owned()))
}

fn beside(kind: u8, credential: &[u8]) -> Vec<u8> {
    [&[kind], credential].concat()
}

/// `apps`: what was told about the end of the credential under this key.
pub fn told_expiry(credential: &[u8]) -> Vec<u8> {
    beside(b'e', credential)
}

/// `apps`: how far the feed of dead device tokens was read with the credential under this key.
pub fn feed_position(credential: &[u8]) -> Vec<u8> {
    beside(b'o', credential)
}

/// `apps`: which device tokens an app's credentials at a vendor are for.
pub fn addresses(app: &AppId, vendor: VendorName) -> Vec<u8> {
    key(b'r', &[app.as_str(), vendor.as_str()])
}

/// `apps`: the calls of one day with a credential; of one class, or of all.
pub fn day(lane: &Lane, class: Option<Class>) -> Vec<u8> {
    let mut key = key(b'u', &[lane.app.as_str(), lane.vendor.as_str()]);
    match (class, lane.credential.is_default()) {
        (None, true) => {} // as in the first format
        (None, false) => text(&mut key, lane.credential.as_str()),
        (Some(Class::Service), _) => text(&mut key, &format!("{}~service", lane.credential)),
        (Some(Class::Marketing), _) => text(&mut key, &format!("{}~marketing", lane.credential)),
    }
    key
}

/// `apps`: which events an app's webhooks want.
pub fn webhook_list(app: &AppId) -> Vec<u8> {
    key(b'h', &[app.as_str()])
}

/// `apps`: every webhook of an app.
pub fn webhooks(app: &AppId) -> Vec<u8> {
    key(b'w', &[app.as_str()])
}

/// `apps`: one webhook.
pub fn webhook(app: &AppId, id: &str) -> Vec<u8> {
    key(b'w', &[app.as_str(), id])
}

/// `devices`: one device.
pub fn device(app: &AppId, device: &str) -> Vec<u8> {
    key(b'd', &[app.as_str(), device])
}

/// `devices`: every device of an app.
pub fn devices(app: &AppId) -> Vec<u8> {
    key(b'd', &[app.as_str()])
}

/// `devices`: every device of every app.
pub fn all_devices() -> Vec<u8> {
    vec![b'd']
}

/// `devices`: the id of a device by its number.
pub fn device_of_number(app: &AppId, number: DeviceNumber) -> Vec<u8> {
    let mut key = key(b'i', &[app.as_str()]);
    key.extend_from_slice(&number.0.to_be_bytes());
    key
}

/// `devices`: the number that an app's next device gets.
pub fn next_device_number(app: &AppId) -> Vec<u8> {
    key(b'n', &[app.as_str()])
}

/// `devices`: where older releases kept who has a tag or an alias.
pub fn old_indexes() -> [Vec<u8>; 2] {
    [vec![b'g'], vec![b'l']]
}

/// `devices`: every presence of every app.
pub fn all_presences() -> Vec<u8> {
    vec![b'p']
}

/// `devices`: what is known about a device's connection.
pub fn presence(app: &AppId, device: &str) -> Vec<u8> {
    key(b'p', &[app.as_str(), device])
}

/// `devices`: the epoch of the broker's last start.
pub fn broker_start() -> Vec<u8> {
    vec![b'b']
}

/// `devices`: the broker's last starts.
pub fn broker_starts() -> Vec<u8> {
    b"bs".to_vec()
}

/// `devices`: who owns a device token.
pub fn token_owner(app: &AppId, vendor: VendorName, token: &str) -> Vec<u8> {
    key(b't', &[app.as_str(), vendor.as_str(), token])
}

/// `devices`: the number of an app's newest dead token.
pub fn last_dead(app: &AppId) -> Vec<u8> {
    key(b'y', &[app.as_str()])
}

/// `devices`: every dead token of an app, oldest first.
pub fn all_dead(app: &AppId) -> Vec<u8> {
    key(b'x', &[app.as_str()])
}

/// `devices`: one dead token.
pub fn dead(app: &AppId, number: u64) -> Vec<u8> {
    let mut key = all_dead(app);
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// `apps`: every segment of an app.
pub fn segments(app: &AppId) -> Vec<u8> {
    key(b's', &[app.as_str()])
}

/// `apps`: one segment.
pub fn segment(app: &AppId, name: &str) -> Vec<u8> {
    key(b's', &[app.as_str(), name])
}

/// `apps`: every policy of an app.
pub fn policies(app: &AppId) -> Vec<u8> {
    key(b'p', &[app.as_str()])
}

/// `apps`: one policy.
pub fn policy(app: &AppId, name: &str) -> Vec<u8> {
    key(b'p', &[app.as_str(), name])
}

/// `messages`: what a policy let through to a recipient, as one of its caps counts.
pub fn policy_count(app: &AppId, policy: &str, cap: &str, recipient: &str) -> Vec<u8> {
    key(b'c', &[app.as_str(), policy, cap, recipient])
}

/// `messages`: what a device missed of a policy's messages since it went offline. No cap has this name.
pub fn policy_period(app: &AppId, policy: &str, device: &str) -> Vec<u8> {
    policy_count(app, policy, "offline", device)
}

/// `messages`: the next turn by a policy's rate.
pub fn policy_turn(app: &AppId, policy: &str) -> Vec<u8> {
    key(b't', &[app.as_str(), policy])
}

/// `devices`: at which hours a device is online.
pub fn habits(app: &AppId, device: &str) -> Vec<u8> {
    key(b'h', &[app.as_str(), device])
}

/// `apps`: the newest version of every template of an app, by name.
pub fn templates(app: &AppId) -> Vec<u8> {
    key(b't', &[app.as_str()])
}

/// `apps`: the newest version of a template.
pub fn template(app: &AppId, name: &str) -> Vec<u8> {
    key(b't', &[app.as_str(), name])
}

/// `apps`: every version of a template, oldest first.
pub fn template_versions(app: &AppId, name: &str) -> Vec<u8> {
    key(b'T', &[app.as_str(), name])
}

/// `apps`: one version of it.
pub fn template_version(app: &AppId, name: &str, version: u64) -> Vec<u8> {
    numbered(template_versions(app, name), version)
}

/// `apps`: the last number that a version of a template had.
pub fn template_last(app: &AppId, name: &str) -> Vec<u8> {
    key(b'L', &[app.as_str(), name])
}

/// `apps`: every schedule of an app, oldest first.
pub fn schedules(app: &AppId) -> Vec<u8> {
    key(b'S', &[app.as_str()])
}

/// `apps`: one schedule.
pub fn schedule(app: &AppId, id: &str) -> Vec<u8> {
    key(b'S', &[app.as_str(), id])
}

/// One device in an index.
pub fn member(index: &[u8], device: &str) -> Vec<u8> {
    let mut key = index.to_vec();
    text(&mut key, device);
    key
}

/// The app at the beginning of what stands behind a prefix.
pub fn app_at(place: &[u8]) -> Option<AppId> {
    let end = place.iter().position(|byte| *byte == 0)?;
    AppId::parse(std::str::from_utf8(place.get(..end)?).ok()?).ok()
}

/// The text that stands behind a prefix, up to its NUL.
pub fn text_after(key: &[u8], prefix: &[u8]) -> Option<String> {
    let rest = key.strip_prefix(prefix)?;
    let rest = rest.strip_suffix(&[0]).unwrap_or(rest);
    String::from_utf8(rest.to_vec()).ok()
}

fn of_message(kind: u8, app: &AppId, id: MessageId) -> Vec<u8> {
    let mut key = key(kind, &[app.as_str()]);
    key.extend_from_slice(&id.0);
    key
}

/// `messages`: one message.
pub fn message(app: &AppId, id: MessageId) -> Vec<u8> {
    of_message(b'm', app, id)
}

/// `messages`: every message of an app, oldest first.
pub fn messages(app: &AppId) -> Vec<u8> {
    key(b'm', &[app.as_str()])
}

/// `messages`: its funnel counts.
pub fn funnel(app: &AppId, id: MessageId) -> Vec<u8> {
    of_message(b'n', app, id)
}

/// `messages`: the deliveries of a message.
pub fn deliveries(app: &AppId, id: MessageId) -> Vec<u8> {
    of_message(b'v', app, id)
}

/// `messages`: one delivery.
pub fn delivery(app: &AppId, id: MessageId, device: &str) -> Vec<u8> {
    member(&deliveries(app, id), device)
}

/// `statistics`: the rows of an app with spans of one length, of one dimension.
pub fn statistics(app: &AppId, span: u8, by: u8) -> Vec<u8> {
    let mut key = key(b's', &[app.as_str()]);
    key.extend_from_slice(&[span, by]);
    key
}

/// `statistics`: the minute of an app that is not folded into its hour and day yet.
pub fn statistics_open(app: &AppId) -> Vec<u8> {
    key(b'o', &[app.as_str()])
}

/// `statistics`: of these, the rows of one span.
pub fn statistics_at(rows: &[u8], at_ms: u64) -> Vec<u8> {
    [rows, &at_ms.to_be_bytes()].concat()
}

/// `statistics`: of these, the row of one value.
pub fn statistics_row(of_span: &[u8], value: &Value) -> Vec<u8> {
    let (kind, name) = match value {
        Value::None => (0, ""),
        Value::Named(name) => (1, name.as_str()),
        Value::Others => (2, ""),
    };
    [of_span, &[kind], name.as_bytes()].concat()
}

/// What a key of [`statistics_row`] holds behind the dimension: when the span begins, and the value.
pub fn parse_statistics(key: &[u8], rows: &[u8]) -> Option<(u64, Value)> {
    let at_ms = number_at(key, rows.len())?;
    let (kind, name) = key.get(rows.len() + 8..)?.split_first()?;
    let value = match kind {
        0 => Value::None,
        1 => Value::Named(String::from_utf8(name.to_vec()).ok()?),
        _ => Value::Others,
    };
    Some((at_ms, value))
}

/// `audit`: every record, oldest first.
pub fn audit_records() -> Vec<u8> {
    vec![b'r']
}

/// `audit`: one record.
pub fn audit_record(seq: u64) -> Vec<u8> {
    numbered(audit_records(), seq)
}

/// `audit`: the newest record's number and hash.
pub fn audit_head() -> Vec<u8> {
    vec![b'h']
}

/// `audit`: those of the newest record that was removed.
pub fn audit_anchor() -> Vec<u8> {
    vec![b'a']
}

/// `messages`: whose a vendor's own name of a push is.
pub fn vendor_id(app: &AppId, vendor: VendorName, id: &str) -> Vec<u8> {
    key(b'w', &[app.as_str(), vendor.as_str(), id])
}

/// `messages`: the counts of every user's inbox.
pub fn inbox_ledgers() -> Vec<u8> {
    vec![b'L']
}

/// `messages`: the counts of one user's inbox.
pub fn inbox_ledger(app: &AppId, user: &str) -> Vec<u8> {
    key(b'L', &[app.as_str(), user])
}

/// Whose a key of [`inbox_ledger`] is.
pub fn inbox_owner(key: &[u8]) -> Option<(AppId, String)> {
    let mut parts = key.strip_prefix(b"L")?.split(|byte| *byte == 0).map(std::str::from_utf8);
    let app = AppId::parse(parts.next()?.ok()?).ok()?;
    Some((app, parts.next()?.ok()?.to_owned()))
}

/// `messages`: the entries of a user's inbox, oldest message first.
pub fn inbox_entries(app: &AppId, user: &str) -> Vec<u8> {
    key(b'E', &[app.as_str(), user])
}

/// `messages`: one of them.
pub fn inbox_entry(app: &AppId, user: &str, place: Place) -> Vec<u8> {
    [inbox_entries(app, user).as_slice(), &place.0.0].concat()
}

/// `messages`: the place of a message in a user's inbox, where its id does not say it.
pub fn inbox_place(app: &AppId, user: &str, id: MessageId) -> Vec<u8> {
    [key(b'P', &[app.as_str(), user]).as_slice(), &id.0].concat()
}

/// `messages`: what forgotten messages say that are in inboxes.
pub fn inbox_contents() -> Vec<u8> {
    vec![b'C']
}

/// `messages`: what one of them says.
pub fn inbox_content(app: &AppId, id: MessageId) -> Vec<u8> {
    of_message(b'C', app, id)
}

/// `messages`: a request that was done already.
pub fn idempotency(app: &AppId, api_key: &str, header: &str) -> Vec<u8> {
    key(b'i', &[app.as_str(), api_key, header])
}

/// `messages`: a list of devices.
pub fn list(app: &AppId, list: &str) -> Vec<u8> {
    key(b'k', &[app.as_str(), list])
}

/// `messages`: the devices of a list, by id.
pub fn list_entries(app: &AppId, list: &str) -> Vec<u8> {
    key(b'l', &[app.as_str(), list])
}

/// `messages`: one of them.
pub fn list_entry(app: &AppId, list: &str, device: &str) -> Vec<u8> {
    key(b'l', &[app.as_str(), list, device])
}

/// `queues`: every upload that is not over, of every app.
pub fn open_imports() -> Vec<u8> {
    vec![b'u']
}

/// `queues`: every upload of an app that is not over.
pub fn open_imports_of(app: &AppId) -> Vec<u8> {
    key(b'u', &[app.as_str()])
}

/// `queues`: one of them.
pub fn open_import(app: &AppId, id: &str) -> Vec<u8> {
    key(b'u', &[app.as_str(), id])
}

/// Whose a key of [`open_imports`] is, and its id.
pub fn parse_open_import(key: &[u8]) -> Option<(AppId, String)> {
    let mut parts = key.strip_prefix(b"u")?.split(|byte| *byte == 0).map(std::str::from_utf8);
    Some((AppId::parse(parts.next()?.ok()?).ok()?, parts.next()?.ok()?.to_owned()))
}

/// `queues`: one upload.
pub fn import(app: &AppId, id: &str) -> Vec<u8> {
    key(b'i', &[app.as_str(), id])
}

/// `queues`: what is wrong with rows of an upload, by their numbers.
pub fn import_errors(app: &AppId, id: &str) -> Vec<u8> {
    key(b'r', &[app.as_str(), id])
}

/// `queues`: one of them.
pub fn import_error(app: &AppId, id: &str, row: u64) -> Vec<u8> {
    numbered(import_errors(app, id), row)
}

/// `queues`: every export of every app.
pub fn exports() -> Vec<u8> {
    vec![b'e']
}

/// `queues`: every export of an app.
pub fn exports_of(app: &AppId) -> Vec<u8> {
    key(b'e', &[app.as_str()])
}

/// `queues`: one export.
pub fn export(app: &AppId, id: &str) -> Vec<u8> {
    key(b'e', &[app.as_str(), id])
}

/// `queues`: what waits for the broker, in order.
pub fn outbox() -> Vec<u8> {
    vec![b'o']
}

/// `queues`: one entry of it.
pub fn outbox_entry(number: u64) -> Vec<u8> {
    let mut key = outbox();
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// `queues`: what waits for a moment, earliest first.
pub fn checks() -> Vec<u8> {
    vec![b'c']
}

/// `queues`: one of them.
pub fn check(due_ms: u64, number: u64) -> Vec<u8> {
    let mut key = checks();
    key.extend_from_slice(&due_ms.to_be_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// `queues`: a record of this space that could not be decoded, with its own key behind. No app's name is empty.
pub fn set_aside(key: &[u8]) -> Vec<u8> {
    [all_set_aside().as_slice(), key].concat()
}

/// `queues`: every one of them.
pub fn all_set_aside() -> Vec<u8> {
    key(b'!', &[""])
}

/// Where a record under a key of [`set_aside`] stood.
pub fn parse_set_aside(key: &[u8]) -> Option<&[u8]> {
    key.strip_prefix(b"!\0")
}

/// `queues`: the last number given.
pub fn last_number() -> Vec<u8> {
    vec![b'n']
}

/// `queues`: what the readiness check writes.
pub fn probe() -> Vec<u8> {
    vec![b'p']
}

/// `queues`: every job.
pub fn jobs() -> Vec<u8> {
    vec![b'j']
}

/// `queues`: the job of a message.
pub fn job(app: &AppId, id: MessageId) -> Vec<u8> {
    of_message(b'j', app, id)
}

/// `queues`: the job of a message that rests.
pub fn held_job(app: &AppId, id: MessageId) -> Vec<u8> {
    of_message(b'h', app, id)
}

/// `queues`: devices of a message about which its policy is asked when there is room, in chunks with a number each.
pub fn crowd(app: &AppId, id: MessageId) -> Vec<u8> {
    of_message(b'd', app, id)
}

/// `queues`: every push of this size that waits for any vendor.
pub fn pushes(size: Size) -> Vec<u8> {
    vec![match size {
        Size::Single => b'q',
        Size::Bulk => b'b',
    }]
}

/// `queues`: the pushes of one lane, earliest first.
pub fn lane(lane: &Lane, size: Size) -> Vec<u8> {
    let mut key = pushes(size);
    text(&mut key, lane.app.as_str());
    text(&mut key, lane.vendor.as_str());
    if let Some(suffix) = lane.suffix() {
        text(&mut key, &suffix);
    }
    key
}

/// `queues`: one of them.
pub fn push(lane_key: &[u8], due_ms: u64, id: MessageId, device: &str) -> Vec<u8> {
    let mut key = message_pushes(lane_key, due_ms, id);
    text(&mut key, device);
    key
}

/// `queues`: what is kept of every webhook.
pub fn all_hook_records() -> Vec<u8> {
    vec![b'w']
}

/// `queues`: what is kept of one webhook: numbers and counts, letters, attempts.
pub fn hook_records(app: &AppId, id: &str) -> Vec<u8> {
    key(b'w', &[app.as_str(), id])
}

fn of_hook(app: &AppId, id: &str, kind: u8) -> Vec<u8> {
    let mut key = hook_records(app, id);
    key.push(kind);
    key
}

/// One of several that stand behind a prefix, by its number.
pub fn numbered(mut key: Vec<u8>, number: u64) -> Vec<u8> {
    key.extend_from_slice(&number.to_be_bytes());
    key
}

/// `queues`: a webhook's numbers and counts.
pub fn hook_ledger(app: &AppId, id: &str) -> Vec<u8> {
    of_hook(app, id, b'l')
}

/// `queues`: the letters that wait for a webhook, oldest first.
pub fn all_hook_waiting(app: &AppId, id: &str) -> Vec<u8> {
    of_hook(app, id, b'q')
}

/// `queues`: one of them.
pub fn hook_waiting(app: &AppId, id: &str, number: u64) -> Vec<u8> {
    numbered(all_hook_waiting(app, id), number)
}

/// `queues`: the dead letters of a webhook, oldest first.
pub fn all_hook_dead(app: &AppId, id: &str) -> Vec<u8> {
    of_hook(app, id, b'x')
}

/// `queues`: one of them.
pub fn hook_dead(app: &AppId, id: &str, number: u64) -> Vec<u8> {
    numbered(all_hook_dead(app, id), number)
}

/// `queues`: the attempts at a webhook, oldest first.
pub fn all_hook_attempts(app: &AppId, id: &str) -> Vec<u8> {
    of_hook(app, id, b'y')
}

/// `queues`: one of them.
pub fn hook_attempt(app: &AppId, id: &str, number: u64) -> Vec<u8> {
    numbered(all_hook_attempts(app, id), number)
}

/// Whose a key of [`hook_records`] is.
pub fn parse_hook(key: &[u8]) -> Option<(AppId, String)> {
    let mut parts = key.strip_prefix(b"w")?.split(|byte| *byte == 0);
    let app = AppId::parse(std::str::from_utf8(parts.next()?).ok()?).ok()?;
    let id = std::str::from_utf8(parts.next()?).ok()?.to_owned();
    Some((app, id))
}

/// `queues`: the pushes of one message in a lane that are due at one moment.
pub fn message_pushes(lane_key: &[u8], due_ms: u64, id: MessageId) -> Vec<u8> {
    [lane_key, &due_ms.to_be_bytes(), &id.0].concat()
}

/// The number in 8 bytes that stand at a place of a key.
pub fn number_at(key: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

/// What a key of [`push`] holds behind the lane: due, message, device.
pub fn parse_push(key: &[u8], lane: &[u8]) -> Option<(u64, MessageId, String)> {
    let rest = key.strip_prefix(lane)?;
    let due_ms = number_at(rest, 0)?;
    let id = MessageId::from_bytes(rest.get(8..24)?).ok()?;
    let device = text_after(rest, rest.get(..24)?)?;
    Some((due_ms, id, device))
}

/// The lane that a key of [`push`] stands in. A moment begins with a NUL (until the year 2,285,000) and a suffix with a
/// letter, so that the two are told apart.
pub fn parse_lane(key: &[u8]) -> Option<Lane> {
    let mut parts = key.get(1..)?.split(|byte| *byte == 0);
    let mut next = || std::str::from_utf8(parts.next()?).ok();
    let (app, vendor) = (AppId::parse(next()?).ok()?, next()?.parse().ok()?);
    Lane::from_suffix(app, vendor, next()?)
}
